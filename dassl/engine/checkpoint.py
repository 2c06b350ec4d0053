"""What a checkpoint of a trainer holds, and finding the one to resume from.

Two kinds of files, all written atomically and made of tensors and plain values:

- ``<run>/<model name>/model.pth.tar-<epoch>``: Dassl's layout, one file per registered model, at Dassl's moments;
- ``<run>/resume/epoch-<epoch>.pt``: a point to resume from, all models in one file. The last two are kept while a run
  trains; they are removed when it ends.

Each holds, beside ``state_dict``, ``optimizer``, ``scheduler``, ``epoch`` and ``val_result``, what an exact resume
needs: random states, gradient scaler, best result, the trainer's name, extras and changed attributes.
"""

import contextlib
import json
import os
import os.path as osp
import re
import time

import torch

from basics.files import remove_parts
from basics.hashes import file_hash
from basics.identity import deciding, describe, differences

from ..config import binding_keys
from ..utils import (
    DamagedFileError,
    UserError,
    get_rng_state,
    load_checkpoint,
    nearest,
    printable,
    set_rng_state,
    torch_save,
)
from .attributes import changed_attributes, restore_attributes

RESUME_DIR = "resume"
KEPT_RESUME_POINTS = 2
# a resume point is written when the time since the last one is this many times what writing one takes
RESUME_POINT_THRIFT = 20


def frozen_samples(model):
    """Return {name: about 64 of its values} for the frozen parameters, by which a later change of them shows."""
    frozen = {name: p.detach().flatten() for name, p in _parameters(model).items() if not p.requires_grad}
    return {name: p[:: max(len(p) // 64, 1)].clone() for name, p in frozen.items()}


def learned_state(model, frozen_at_start=None):
    """Return the part of ``model.state_dict()`` that training changes: no frozen parameters.

    Of these, the ones that differ from their samples in ``frozen_at_start`` are kept: methods that average weights over
    the epochs, or that keep a momentum copy, write to frozen parameters.
    A model without any learnable parameter (a teacher that is a moving average, say) was registered in order to be
    saved: all of it is.
    """
    frozen = frozen_samples(model)
    if len(frozen) == len(_parameters(model)):
        return model.state_dict()
    for name, before in (frozen_at_start or {}).items():
        if name in frozen and not torch.equal(frozen[name], before.to(frozen[name])):
            del frozen[name]
    return {key: value for key, value in model.state_dict().items() if key not in frozen}


def _parameters(model):
    return dict(model.named_parameters(remove_duplicate=False))


def load_learned_state(model, state_dict, where):
    """Load what ``learned_state`` gave. UserError for unknown entries, missing learned ones, and other shapes."""
    own = model.state_dict()
    state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    unknown = [key for key in state_dict if key not in own]
    learned = [name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    missing = [name for name in learned if name not in state_dict]
    if unknown or missing:
        hint = nearest(unknown[0], own) if unknown else ""
        raise UserError(
            f"{where}: does not fit this method"
            + (f"; it has {', '.join(unknown[:5])}, which the method lacks{hint}" if unknown else "")
            + (f"; it lacks {', '.join(missing[:5])}" if missing else "")
        )
    for key, value in state_dict.items():
        if value.shape != own[key].shape:
            raise UserError(
                f"{where}: {key} has the shape {tuple(value.shape)}, this configuration needs {tuple(own[key].shape)}; "
                "use the settings (backbone, context length, classes, …) that it was trained with"
            )
    model.load_state_dict(state_dict, strict=False)


def check_trainer(checkpoint, cfg, where):
    """Raise UserError when the checkpoint names another trainer than ``cfg``."""
    trainer = checkpoint.get("trainer")
    if trainer is not None and trainer != cfg.TRAINER.NAME:
        raise UserError(f"{where}: a checkpoint of {trainer}, not of {cfg.TRAINER.NAME}; use --trainer {trainer}")


def check_settings(checkpoint, trainer, where):
    """Raise UserError when the checkpoint was trained with another value of a key that its weights depend on."""
    try:
        identity = json.loads(checkpoint.get("identity") or "{}")
        found = differences(identity, deciding(trainer.cfg))
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"{where}: its identity isn't as this program writes it") from None
    binding = binding_keys(trainer.cfg, getattr(trainer, "section", ""))
    wrong = [entry for entry in found if entry[0] in binding]
    if wrong:
        raise UserError(f"{where}: trained with {describe(wrong)}; use the value that it was trained with")


def check_classes(checkpoint, trainer, where):
    """Raise UserError when what the checkpoint learned for each class is of other classes than the trainer's."""
    bound = getattr(trainer, "knows_its_classes_only", None)  # trainers written for Dassl don't say
    if bound is None or not bound(trainer.cfg):
        return
    trained, own = checkpoint.get("classnames"), list(trainer.dm.dataset.classnames)
    if trained is None:
        print(f"WARNING: {where} has a part for each class and doesn't say which classes: that they are these can't be checked")
    elif trained != own:
        pairs = [(a, b) for a, b in zip(trained, own) if a != b] if isinstance(trained, list) else []
        first = f", first {pairs[0][0]!r} in place of {pairs[0][1]!r}" if pairs else ""
        raise UserError(f"{where}: what it learned belongs to its own classes, and these are others{first}")


def check_model_dir(directory, names):
    """UserError unless ``directory`` is a folder that may be that of a run, with the folder that is where there is a guess."""
    name = osp.basename(osp.abspath(directory))
    if osp.isfile(directory) or (name in names and not osp.isdir(osp.join(directory, name)) and osp.isdir(directory)):
        run = osp.dirname(osp.abspath(directory))
        run = osp.dirname(run) if osp.basename(run) in names else run
        raise UserError(f"--model-dir {directory}: give the run's folder, {run}")
    if not osp.isdir(directory):
        raise UserError(f"--model-dir: no such folder: {directory}")


def loaded_record(directory, loaded):
    """What ``load_model`` has loaded, as data; ``loaded``: [(model name, path, checkpoint)]."""
    identity = loaded[0][2].get("identity") if loaded else None
    return {
        "folder": osp.abspath(directory),
        "epoch": loaded[0][2].get("epoch") if loaded else None,
        "sha256": {name: file_hash(path) for name, path, _ in loaded},
        "identity": json.loads(identity) if isinstance(identity, str) else None,
    }


def model_entry(trainer, name, val_result=None):
    """Return what is saved of one registered model."""
    optim, sched = trainer._optims[name], trainer._scheds[name]
    return {
        "state_dict": learned_state(trainer._models[name], trainer._frozen_at_start.get(name)),
        "optimizer": None if optim is None else optim.state_dict(),
        "scheduler": None if sched is None else sched.state_dict(),
        "val_result": val_result,
    }


def run_entry(trainer, epoch):
    """Return what is saved of a trainer beside its models; ``epoch``: the number of epochs done.

    UserError when a learned parameter is not finite.
    """
    scaler = getattr(trainer, "scaler", None)
    cfg = getattr(trainer, "cfg", None)
    before = trainer._attributes_at_start
    for name, model in trainer._models.items():
        for key, p in _parameters(model).items():
            if p.requires_grad and not torch.isfinite(p).all():
                trainer.stop_non_finite(f"{key} of {name}")  # so that it never replaces a state that can be resumed
    return {
        "epoch": epoch,
        "trainer": cfg.TRAINER.NAME if cfg is not None else type(trainer).__name__,
        **({"classnames": list(trainer.dm.dataset.classnames)} if hasattr(trainer, "dm") else {}),
        "best_result": float(getattr(trainer, "best_result", float("-inf"))),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "rng": get_rng_state(),
        "extras": trainer.checkpoint_extras(),
        "attributes": {} if before is None else changed_attributes(trainer, before),
        "train_seconds": trainer.train_seconds(),
        **({"identity": json.dumps(trainer._run_folder.identity)} if trainer._run_folder else {}),
    }


class ResumePoints:
    """Writes the resume points of a trainer into ``directory/resume``, no more often than is cheap."""

    def __init__(self, directory):
        self.directory = osp.join(directory, RESUME_DIR)
        self._not_before = 0.0

    def save(self, trainer, epoch):
        """Write a point after ``epoch`` epochs, if the last one is long enough ago; drop all but the last two."""
        start = time.monotonic()
        if start < self._not_before:
            return
        state = run_entry(trainer, epoch)
        state["models"] = {name: model_entry(trainer, name) for name in trainer.get_model_names()}
        torch_save(state, osp.join(self.directory, f"epoch-{epoch}.pt"))
        for old in sorted(resume_points(self.directory))[:-KEPT_RESUME_POINTS]:
            os.unlink(osp.join(self.directory, f"epoch-{old}.pt"))
        end = time.monotonic()
        self._not_before = end + (RESUME_POINT_THRIFT - 1) * (end - start)

    def remove(self):
        """Remove the points, and the folder if nothing else is in it: the run has ended, its last checkpoint is there."""
        with contextlib.suppress(OSError):
            for epoch in resume_points(self.directory):
                os.unlink(osp.join(self.directory, f"epoch-{epoch}.pt"))
            remove_parts(self.directory)
            os.rmdir(self.directory)


def _numbered(folder, pattern):
    if not osp.isdir(folder):
        return set()
    return {int(match[1]) for name in os.listdir(folder) if (match := re.fullmatch(pattern, name))}


def resume_points(folder):
    """Return the epochs of the resume points in ``folder``."""
    return _numbered(folder, r"epoch-(\d+)\.pt")


def saved_epochs(directory, names):
    """Return the epochs for which ``directory`` has a checkpoint of every model in ``names``."""
    epochs = [_numbered(osp.join(directory, name), r"model\.pth\.tar-(\d+)") for name in names]
    return set.intersection(*epochs) if epochs else set()


def _candidates(directory, names):
    """Yield (epoch, {model name: file}) from the newest to the oldest; at one epoch the resume point first."""
    points = resume_points(osp.join(directory, RESUME_DIR))
    saved = saved_epochs(directory, names)
    for epoch in sorted(points | saved, reverse=True):
        if epoch in points:
            yield epoch, {None: osp.join(directory, RESUME_DIR, f"epoch-{epoch}.pt")}
        if epoch in saved:
            yield epoch, {name: osp.join(directory, name, f"model.pth.tar-{epoch}") for name in names}


def check_layout(checkpoint, path):
    """Raise DamagedFileError unless ``checkpoint`` has what is read of it, in the types that it is read as."""
    state, epoch, extras = (checkpoint.get(key) for key in ("state_dict", "epoch", "extras"))
    if not isinstance(state, dict):
        raise DamagedFileError(f"{path}: not a checkpoint of a trainer (it has no state_dict)")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise DamagedFileError(f"{path}: its state_dict has {name!r}, a {type(value).__name__}, not a named tensor")
    if epoch is not None and (type(epoch) is not int or epoch < 0):
        raise DamagedFileError(f"{path}: its epoch is {epoch!r}, not a number of epochs")
    if extras is not None and not isinstance(extras, dict):
        raise DamagedFileError(f"{path}: its extras are a {type(extras).__name__}, not a dictionary")
    for text in _texts(extras):
        if printable(text) != text:
            raise DamagedFileError(f"{path}: control character in {text!r}")


@contextlib.contextmanager
def only_user_errors(path):
    """Turn what unsuitable values in a file raise into a UserError that names it: other programs may write anything."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as e:
        reason = str(e).partition("\n")[0][:200]
        raise UserError(f"{path}: this method can't take up its contents ({type(e).__name__}: {reason})") from e


def _texts(value):
    """Yield every string in nested containers."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _texts(key)
            yield from _texts(entry)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for entry in value:
            yield from _texts(entry)


def _read(files):
    """Return (state of the run, {model name: entry}, {model name: where}) of one candidate."""
    if None in files:
        path = files[None]
        run = load_checkpoint(path)
        if not isinstance(run.get("models"), dict) or not all(isinstance(m, dict) for m in run["models"].values()):
            raise DamagedFileError(f"{path}: not a point to resume from")
        for entry in run["models"].values():
            check_layout({**run, **entry}, path)
        return run, run["models"], dict.fromkeys(run["models"], path)
    entries = {name: load_checkpoint(path) for name, path in files.items()}
    for name, entry in entries.items():
        check_layout(entry, files[name])
        if entry.get("epoch") is None:
            raise DamagedFileError(f"{files[name]}: not a checkpoint of a trainer (it has no epoch)")
    return next(iter(entries.values())), entries, files


def resume(trainer, directory):
    """Restore ``trainer`` from the newest usable state in ``directory``; return the epochs done (0: none found).

    All models are taken from the same epoch. A damaged file is passed over, and named. UserError when a state is of
    another method or of other shapes.
    """
    names = trainer.get_model_names()
    damaged = False
    for _, files in _candidates(directory, names) if names else ():
        try:
            run, entries, where = _read(files)
        except DamagedFileError as e:
            print(f"Damaged checkpoint passed over: {e}")
            damaged = True
            continue
        print(f"Found checkpoint at {directory} (will resume training)")
        print(f"Loading checkpoint from {', '.join(files.values())}")
        with only_user_errors(files[next(iter(files))]):
            _restore(trainer, run, entries, where)
        print(f"Previous epoch: {run['epoch']}")
        return run["epoch"]
    print("No undamaged checkpoint found, train from scratch" if damaged else "No checkpoint found, train from scratch")
    return 0


def _check_optimizer(optim, state, where):
    """UserError where a saved optimiser has other settings than ``optim``; loading its state would bring them along."""
    for own, saved in zip(optim.param_groups, state["param_groups"]):
        for name in own.keys() & saved.keys() - {"params", "lr"}:  # the schedule says the rate
            if _plain_setting(own[name]) != _plain_setting(saved[name]):
                raise UserError(f"{where}: its optimiser has {name} {saved[name]}, this configuration {own[name]}")


def _plain_setting(value):
    return list(value) if isinstance(value, (list, tuple)) else value


def _restore(trainer, run, entries, where):
    names = trainer.get_model_names()
    path = next(iter(where.values()))
    check_trainer(run, trainer.cfg, path)
    if trainer._run_folder:
        trainer._run_folder.check_checkpoint(run, path)
    if set(entries) != set(names):
        raise UserError(f"{path}: holds the models {', '.join(entries)}, this method has {', '.join(names)}")
    if run.get("extras"):
        trainer.load_checkpoint_extras(run["extras"])
    restore_attributes(trainer, run.get("attributes") or {})
    for name in names:
        entry, optim, sched = entries[name], trainer._optims[name], trainer._scheds[name]
        load_learned_state(trainer._models[name], entry["state_dict"], where[name])
        try:
            if optim is not None and entry.get("optimizer") is not None:
                _check_optimizer(optim, entry["optimizer"], where[name])
                optim.load_state_dict(entry["optimizer"])
        except ValueError as e:
            raise UserError(f"{where[name]}: its optimiser state does not fit this configuration ({e})") from e
        if sched is not None and entry.get("scheduler") is not None:
            sched.load_state_dict(entry["scheduler"])
    scaler = getattr(trainer, "scaler", None)
    if scaler is not None and run.get("scaler"):
        scaler.load_state_dict(run["scaler"])
    if run.get("best_result") is not None:
        trainer.best_result = run["best_result"]
    trainer.add_train_seconds(run.get("train_seconds", 0.0))
    if run.get("rng"):
        set_rng_state(run["rng"])
