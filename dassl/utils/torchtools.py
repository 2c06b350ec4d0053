"""Checkpoint files (written atomically, read without running code), and helpers on models."""

import os.path as osp
import re
import shutil

import numpy as np
import torch
import torch.nn as nn

from basics import DamagedFileError, UserError
from basics.safe_pickle import safe_torch_load

from .tools import atomic_write, tolist_if_not

__all__ = [
    "count_num_param",
    "init_network_weights",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
    "to_plain",
    "torch_save",
]


def to_plain(obj):
    """Return ``obj`` made of tensors (on the CPU), numbers, strings, bytes and containers only, as a safe reader wants it.

    Raises TypeError for anything else: such an object cannot be in a checkpoint.
    """
    if isinstance(obj, torch.Tensor):
        return obj.detach().cpu()
    if isinstance(obj, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(obj))
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, dict):
        return {to_plain(k): to_plain(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple)):
        return type(obj)(to_plain(v) for v in obj) if type(obj) in (list, tuple) else [to_plain(v) for v in obj]
    if obj is None or isinstance(obj, (bool, int, float, str, bytes)):
        return obj
    raise TypeError(f"a checkpoint holds tensors, numbers, strings, bytes and containers of them, not a {type(obj).__name__}")


def torch_save(state, fpath):
    """Write ``state`` with ``torch.save``, as plain data and atomically."""
    state = to_plain(state)
    with atomic_write(fpath) as file:
        try:
            torch.save(state, file)
        except RuntimeError as e:  # raised while torch closes a file whose writing the file system has refused
            if isinstance(e.__context__, OSError):
                raise e.__context__ from None
            raise


def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
    """Save a checkpoint as ``save_dir/model.pth.tar-<epoch>`` or ``save_dir/<model_name>``.

    ``state`` has ``state_dict`` and ``epoch`` (epochs done), usually ``optimizer``, ``scheduler`` and ``val_result``.
    The text file ``checkpoint`` names the newest numbered one; ``is_best`` also copies it to ``model-best.pth.tar``.
    """
    if remove_module_from_keys:
        state = {**state, "state_dict": {k.removeprefix("module."): v for k, v in state["state_dict"].items()}}
    fpath = osp.join(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    torch_save(state, fpath)
    print(f"Checkpoint saved to {fpath}")
    if not model_name:
        with atomic_write(osp.join(save_dir, "checkpoint"), "w") as file:
            file.write(osp.basename(fpath) + "\n")
    if is_best:
        best = osp.join(save_dir, "model-best.pth.tar")
        with open(fpath, "rb") as source, atomic_write(best) as target:
            shutil.copyfileobj(source, target)
        print(f"Best checkpoint saved to {best}")
    return fpath


def load_checkpoint(fpath):
    """Return the dictionary in a checkpoint file, on the CPU; nothing in the file is run.

    Raises UserError when the file is missing, truncated, not a checkpoint, or wants to run code.
    """
    if fpath is None:
        raise UserError("no checkpoint file given")
    if not osp.isfile(fpath):
        raise UserError(f"no checkpoint at {fpath}")
    checkpoint = safe_torch_load(fpath)
    if not isinstance(checkpoint, dict):
        raise DamagedFileError(f"{fpath}: not a checkpoint (it holds a {type(checkpoint).__name__})")
    return checkpoint


def resume_from_checkpoint(fdir, model, optimizer=None, scheduler=None):
    """Load the newest checkpoint in ``fdir`` into the three; return the number of epochs done."""
    try:
        with open(osp.join(fdir, "checkpoint"), encoding="utf-8") as file:
            fpath = osp.join(fdir, file.readline().strip())
    except OSError as e:
        raise UserError(f'no file named "checkpoint" in {fdir}: nothing to resume from') from e
    print(f"Loading checkpoint from {fpath}")
    checkpoint = load_checkpoint(fpath)
    model.load_state_dict(checkpoint["state_dict"], strict=False)
    print("Loaded model weights")
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
        print("Loaded optimizer")
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        scheduler.load_state_dict(checkpoint["scheduler"])
        print("Loaded scheduler")
    print(f"Previous epoch: {checkpoint['epoch']}")
    return checkpoint["epoch"]


def load_pretrained_weights(model, weight_path):
    """Copy into ``model`` those weights of a checkpoint that it has under the same name and shape; say which are left.

    Raises UserError when none fits.
    """
    checkpoint = load_checkpoint(weight_path)
    state_dict = checkpoint.get("state_dict", checkpoint)
    own = model.state_dict()
    matched, discarded = {}, []
    for key, value in state_dict.items():
        key = key.removeprefix("module.")
        if key in own and own[key].shape == value.shape:
            matched[key] = value
        else:
            discarded.append(key)
    if not matched:
        raise UserError(
            f"{weight_path}: no weight in it fits the model by name and shape; "
            f"it has {', '.join(list(state_dict)[:5])}, the model {', '.join(list(own)[:5])}"
        )
    model.load_state_dict(matched, strict=False)
    print(f"Successfully loaded pretrained weights from {weight_path}")
    if discarded:
        print(f"Layers discarded due to unmatched keys or size: {discarded}")


def count_num_param(model=None, params=None):
    """Return the number of values in ``model``'s parameters, or in ``params`` (parameters or optimiser groups)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or its parameters")
    count = 0
    for item in params:
        count += sum(p.numel() for p in item["params"]) if isinstance(item, dict) else item.numel()
    return count


def open_all_layers(model):
    """Put ``model`` into training mode and let every parameter be learned."""
    model.train()
    for p in model.parameters():
        p.requires_grad_(True)


def open_specified_layers(model, open_layers):
    """Let only the children of ``model`` named in ``open_layers`` (a name or a list) be learned; freeze the others."""
    if isinstance(model, nn.DataParallel):
        model = model.module
    open_layers = tolist_if_not(open_layers)
    children = dict(model.named_children())
    for layer in open_layers:
        if layer not in children:
            raise UserError(f'the model has no layer "{layer}"; it has {", ".join(children)}')
    for name, module in children.items():
        module.train(name in open_layers)
        for p in module.parameters():
            p.requires_grad_(name in open_layers)


_INITS = {
    "normal": lambda w, gain: nn.init.normal_(w, 0.0, gain),
    "xavier": lambda w, gain: nn.init.xavier_normal_(w, gain=gain),
    "kaiming": lambda w, gain: nn.init.kaiming_normal_(w, a=0, mode="fan_in"),
    "orthogonal": lambda w, gain: nn.init.orthogonal_(w, gain=gain),
}


def init_network_weights(model, init_type="normal", gain=0.02):
    """Initialise convolutions and linear layers by ``init_type`` (biases 0), normalisation layers to the identity."""
    if init_type not in _INITS:
        raise UserError(f'unknown initialisation "{init_type}"; choose from: {", ".join(_INITS)}')
    for module in model.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        kind = type(module).__name__
        if weight is not None and re.search("Conv|Linear", kind):
            _INITS[init_type](weight.data, gain)
        elif weight is not None and re.search("BatchNorm|InstanceNorm", kind):
            nn.init.ones_(weight.data)
        else:
            continue
        if bias is not None:
            nn.init.zeros_(bias.data)
