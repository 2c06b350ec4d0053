"""Loading CLIP: OpenAI's names, open_clip's names, a local folder, a local weight file; frozen, in the precision asked for.

Models, weights and downloads are open_clip's. What is added here: one rule for names and files, messages that say what to
do, and the precision of frozen weights.
"""

import hashlib
import logging
import math
import os
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from basics import UserError, nearest

from .image_tower import encode_tokens, is_vit
from .insertions import NOTHING
from .tower import TextTower

# openai/CLIP's published names -> open_clip's (the "quickgelu" configurations are the ones OpenAI's weights belong to)
OPENAI_NAMES = {
    "RN50": "RN50-quickgelu",
    "RN101": "RN101-quickgelu",
    "RN50x4": "RN50x4-quickgelu",
    "RN50x16": "RN50x16-quickgelu",
    "RN50x64": "RN50x64-quickgelu",
    "ViT-B/32": "ViT-B-32-quickgelu",
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-L/14": "ViT-L-14-quickgelu",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu",
}
PRECISIONS = ("fp32", "fp16", "amp", "bf16")
PROJECT_ROOT = Path(__file__).resolve().parents[1]


class CLIP(nn.Module):
    """A frozen CLIP: image encoder, fast text tower, logit scale.

    Attributes:
        visual: open_clip's image encoder, [B, 3, R, R] -> [B, E].
        text: TextTower.
        logit_scale: exp of CLIP's learned temperature, a float (100 for OpenAI's models).
        image_size: R, pixels a side.
        embed_dim: E, width of the common space.
        width: D, width of the text transformer.
        dtype: what matrix products are computed in.
    """

    def __init__(self, model, name, precision="fp32", device="cpu"):
        super().__init__()
        self.name, self.precision = name, precision
        self.dtype = _compute_dtype(precision, torch.device(device))
        self.visual = model.visual
        self.text = TextTower(model, name)
        self.logit_scale = math.exp(float(model.logit_scale.detach().flatten()[0]))
        size = model.visual.image_size
        self.image_size = size[0] if isinstance(size, (tuple, list)) else int(size)
        self.width = self.text.width
        self.requires_grad_(False)
        if self.dtype != torch.float32:
            _lower_precision(self, self.dtype)
        self.to(device).eval()
        projection = self.text.text_projection
        self.embed_dim = projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]

    def train(self, mode=True):
        """Stays in eval mode: batch-norm statistics and drop-out of a pre-trained CLIP never change."""
        return super().train(False)

    def autocast(self):
        """Context in which both encoders compute in the chosen precision."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.text.positional_embedding.device.type, dtype=self.dtype)

    def encode_image(self, images, raw=False, insertions=None, checkpointing=False):
        """[B, 3, R, R] normalised pixels -> [B, E] features: fp32, of length 1, unless ``raw``.

        ``insertions``: what a method puts into the encoder's layers.
        """
        if insertions is None:
            with self.autocast():
                features = self.visual(images)
        else:
            features = self.encode_patches(images, insertions, checkpointing).features
        return features if raw else unit(features)

    def encode_patches(self, images, insertions=NOTHING, checkpointing=False):
        """[B, 3, R, R] normalised pixels -> ImageOutput: pooled feature, patch tokens and inserted rows, none normalised."""
        with self.autocast():
            return encode_tokens(self.visual, images, insertions, checkpointing, self.name)

    def encode_text(self, plan, learned=None, checkpointing=False, raw=False, insertions=NOTHING):
        """Plan and learned vectors [N, D] -> [G, C, E] features: fp32, of length 1, unless ``raw``."""
        with self.autocast():
            features = self.text(plan, learned, checkpointing, insertions)
        return features if raw else unit(features)

    @property
    def image_blocks(self):
        """The image encoder's residual blocks; UserError where it has none (ResNets)."""
        if not is_vit(self.visual):
            raise UserError(f"{self.name}'s image encoder has no transformer blocks: choose a ViT")
        return self.visual.transformer.resblocks

    @property
    def image_width(self):
        """W, width of the image encoder's transformer; UserError where it has none (ResNets)."""
        return self.image_blocks[0].attn.embed_dim


def _compute_dtype(precision, device):
    if precision == "fp32" or (precision == "fp16" and device.type == "cpu"):
        return torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float16


def unit(x):
    """Rows of x [..., E] divided by their length, in fp32."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x / x.norm(dim=-1, keepdim=True)


def load_clip(name, path="", precision="fp32", device="cpu"):
    """Load a frozen CLIP.

    Args:
        name: an OpenAI name ("ViT-B/16"), an open_clip "model/pretrained" pair ("ViT-B-16/laion2b_s34b_b88k"), or a local
            folder in open_clip's format (``open_clip_config.json`` and weights), relative to the working directory or the
            project's root.
        path: a local weight file that is used in place of a download: OpenAI's TorchScript archive (``ViT-B-16.pt``), a
            state dict (``.pt``, ``.pth``, ``.bin``), or ``.safetensors``. In OpenAI's layout the architecture is read off the
            weights; in another layout it is the one ``name`` says.
        precision: "fp32"; "fp16" and "amp" (matrix products in fp16 under autocast, the rest in fp32); "bf16". "fp16", which
            is the lineage's default, means fp32 on a CPU, where half precision is slower and less exact.
        device: where to put it.

    Raises:
        UserError: unknown name, no such file, no weights and no network, unreadable or unfitting weights.
    """
    if precision not in PRECISIONS:
        raise UserError(f'unknown precision "{precision}"; choose one of {", ".join(PRECISIONS)}')
    device = torch.device(device)
    folder = _local_folder(name)
    if path:
        model = _from_file(name, folder, path)
    elif folder:
        model = _from_folder(folder)
    else:
        model = _from_registry(name)
    return CLIP(model, name, precision, device)


def _local_folder(name):
    for folder in (Path(name), PROJECT_ROOT / name):
        if (folder / "open_clip_config.json").is_file():
            return folder
    if Path(name).is_dir():
        raise UserError(f"{name} is a folder without open_clip_config.json: not a model in open_clip's format")
    return None


def _open_clip():
    import open_clip

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))
    return open_clip


def _from_folder(folder):
    try:
        return _open_clip().create_model(f"local-dir:{folder}", require_pretrained=True)
    except Exception as e:
        raise UserError(f"the model in {folder} cannot be loaded: {_first_line(e)}") from e


def _resolve(name):
    """Backbone name -> (open_clip model name, pretrained tag)."""
    if name in OPENAI_NAMES:
        return OPENAI_NAMES[name], "openai"
    open_clip = _open_clip()
    model, _, tag = name.rpartition("/")
    if model and (model, tag) in set(open_clip.list_pretrained()):
        return model, tag
    if model in open_clip.list_models() or name in open_clip.list_models():
        arch = model if model in open_clip.list_models() else name
        tags = [t for m, t in open_clip.list_pretrained() if m == arch]
        raise UserError(
            f'backbone "{name}": open_clip\'s {arch} needs one of its pre-trained weights, e.g. "{arch}/{tags[0]}" '
            f"(it has: {', '.join(tags)})"
            if tags
            else f'backbone "{name}": open_clip has no weights for {arch}'
        )
    known = [*OPENAI_NAMES, *(f"{m}/{t}" for m, t in open_clip.list_pretrained())]
    raise UserError(
        f'unknown backbone "{name}" (MODEL.BACKBONE.NAME){nearest(name, known, most=3)}; '
        f"OpenAI's names are {', '.join(OPENAI_NAMES)}; "
        "an open_clip model/pretrained pair or a local model folder will do as well."
    )


def _from_registry(name):
    model, tag = _resolve(name)
    cached = _openai_cache(model) if tag == "openai" else None
    if cached:
        return _from_openai_state(_read_weights(cached), cached)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.ERROR)
            return _open_clip().create_model(model, pretrained=tag, require_pretrained=True)
    except Exception as e:
        official = f" (OpenAI's file is {name.replace('/', '-').replace('@', '-')}.pt)" if tag == "openai" else ""
        raise UserError(
            f"no weights for {name}: not in a local cache, and the download failed ({_first_line(e)}). Fetch the file on a "
            f"machine with network{official} and pass MODEL.BACKBONE.PATH /path/to/file."
        ) from e
    finally:
        logging.disable(logging.NOTSET)


def _openai_cache(model):
    """The archive that openai/CLIP and the CoOp lineage keep in ~/.cache/clip, if it is there and its checksum is right."""
    from open_clip.pretrained import get_pretrained_url

    url = get_pretrained_url(model, "openai") or ""
    file = Path.home() / ".cache" / "clip" / os.path.basename(url)
    if not url or not file.is_file():
        return None
    with open(file, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    expected = url.split("/")[-2]
    if digest != expected:
        raise UserError(
            f"{file} has a wrong checksum (sha256 {digest[:12]}…, OpenAI's is {expected[:12]}…): an interrupted download? "
            "Delete it, or name another file with MODEL.BACKBONE.PATH."
        )
    return str(file)


def _from_file(name, folder, path):
    if not Path(path).is_file():
        raise UserError(f"MODEL.BACKBONE.PATH: no such file: {path}")
    state = _read_weights(path)
    if "visual.conv1.weight" in state and "token_embedding.weight" in state and folder is None:
        known = OPENAI_NAMES.get(name)
        if known is None:
            known = _resolve(name)[0]
        if known in OPENAI_NAMES.values() or name in OPENAI_NAMES:
            return _from_openai_state(state, path)
    open_clip = _open_clip()
    model = _from_folder(folder) if folder else open_clip.create_model(_resolve(name)[0])
    try:
        model.load_state_dict(state)
    except RuntimeError as e:
        raise UserError(f"{path}: the weights don't fit {name}: {_first_line(e)}") from e
    return model


def _from_openai_state(state, path):
    """Model from a state dict in OpenAI's layout; its architecture is in the shapes."""
    from open_clip.model import build_model_from_openai_state_dict

    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        return build_model_from_openai_state_dict(state, cast_dtype=torch.float32).float()
    except (KeyError, RuntimeError, AssertionError, IndexError) as e:
        raise UserError(f"{path}: not a complete CLIP state dict in OpenAI's layout: {_first_line(e)}") from e


def _read_weights(path):
    """State dict of a safetensors file, a TorchScript archive, or a (nested) pickled state dict; nothing is executed."""
    path = str(path)
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch.jit is deprecated; OpenAI's files are what they are
                return torch.jit.load(path, map_location="cpu").state_dict()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise UserError(
            f"{path} cannot be read as CLIP weights ({_first_line(e)}). Expected: OpenAI's TorchScript archive, a state dict "
            "saved by torch.save, or a .safetensors file. Is the file complete?"
        ) from e
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict (a mapping from names to tensors)")
    return {k.removeprefix("module."): v for k, v in state.items()}


def _is_torchscript(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _lower_precision(model, dtype):
    """Store weights of matrix products in ``dtype``; norms, embeddings and positions stay in fp32 (as openai/CLIP does)."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            module.to(dtype)
        elif isinstance(module, nn.MultiheadAttention):
            for parameter in (module.in_proj_weight, module.in_proj_bias):
                if parameter is not None:
                    parameter.data = parameter.data.to(dtype)
    for owner in (model.visual, model.text):
        for name in ("proj", "text_projection"):
            value = getattr(owner, name, None)
            if isinstance(value, nn.Parameter):
                value.data = value.data.to(dtype)


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
