"""Loading CLIP: OpenAI's names, open_clip's names, a local folder, a local weight file; frozen, in the precision asked for.

Models, weights and downloads are open_clip's. What is added here: one rule for names and files, messages that say what to
do, and the precision of frozen weights.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from basics import UserError, nearest
from basics.hashes import digest, state_hash

from .architecture import config_of
from .image_tower import encode_tokens, is_vit
from .insertions import NOTHING, Insertions
from .state_dicts import fitted
from .tower import TextTower
from .weights import check_file, check_finite_weights, first_line, read_clip, weights_in

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
        weights: where they come from, as data: ``state_sha256`` of all values in fp32 and, from ``load_clip``, what
            ``check_file`` says of their file and ``config_sha256`` of a model folder.
    """

    def __init__(self, model, name, precision="fp32", device="cpu"):
        super().__init__()
        self.name, self.precision = name, precision
        state = model.state_dict()
        check_finite_weights(state, name)
        self.weights = {"state_sha256": state_hash(state)}
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

    def encode_image(
        self, images: torch.Tensor, raw: bool = False, insertions: Insertions | None = None, checkpointing: bool = False
    ) -> torch.Tensor:
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


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows of x [..., E] divided by their length, in fp32."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x / x.norm(dim=-1, keepdim=True)


def load_clip(name: str, path: str = "", precision: str = "fp32", device: Any = "cpu") -> CLIP:
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
        model, source = _from_file(name, folder, path)
    elif folder:
        model, source = _from_folder(folder)
    else:
        model, source = _from_registry(name)
    clip = CLIP(model, name, precision, device)
    clip.weights = {**source, **clip.weights}
    if folder:
        clip.weights["config_sha256"] = digest(json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8")))
    return clip


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


def _from_folder(folder, own_weights=True):
    """(model, what ``check_file`` says) of a folder; not ``own_weights``: others will take their place."""
    path = weights_in(folder) if own_weights else ""
    source = check_file(path) if path else {}
    try:
        model = _open_clip().create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    except Exception as e:
        raise UserError(f"the model in {folder} cannot be built: {first_line(e)}") from e
    if path:
        _load(model, read_clip(path), path, f"the model in {folder}")
    return model, source


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
        source = check_file(cached, *_openai_checksum(model))
        return _from_openai_state(read_clip(cached), cached), source
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.ERROR)
            file = download_pretrained(get_pretrained_cfg(model, tag))
            source = check_file(file)
            return _open_clip().create_model(model, pretrained=tag, require_pretrained=True), source
    except UserError:
        raise
    except Exception as e:
        official = f" (OpenAI's file is {name.replace('/', '-').replace('@', '-')}.pt)" if tag == "openai" else ""
        raise UserError(
            f"no weights for {name}: not in a local cache, and the download failed ({first_line(e)}). Fetch the file on a "
            f"machine with network{official} and pass MODEL.BACKBONE.PATH /path/to/file."
        ) from e
    finally:
        logging.disable(logging.NOTSET)


def _openai_cache(model):
    """The archive that openai/CLIP and the CoOp lineage keep in ~/.cache/clip, if it is there."""
    from open_clip.pretrained import get_pretrained_url

    url = get_pretrained_url(model, "openai") or ""
    file = Path.home() / ".cache" / "clip" / os.path.basename(url)
    return str(file) if url and file.is_file() else None


def _openai_checksum(model):
    from open_clip.pretrained import get_pretrained_url

    return get_pretrained_url(model, "openai").split("/")[-2], "OpenAI"


def _from_file(name, folder, path):
    if not Path(path).is_file():
        raise UserError(f"MODEL.BACKBONE.PATH: no such file: {path}")
    source = check_file(path)
    state = read_clip(path)
    if folder is None and _resolve(name)[0] in OPENAI_NAMES.values():
        return _from_openai_state(state, path), source
    if folder:
        model = _from_folder(folder, own_weights=False)[0]
    else:
        model = _open_clip().create_model(_resolve(name)[0], load_weights=False, pretrained_text=False)
    _load(model, state, path, name)
    return model, source


def _load(model, state, path, name):
    """Put a state dict into an open_clip model. UserError: it doesn't fit."""
    from open_clip.convert import convert_state_dict  # MobileCLIP's published names

    model.load_state_dict(fitted(convert_state_dict(model, state), model.state_dict(), path, name))


def _from_openai_state(state, path):
    """Model from a state dict in OpenAI's layout; its architecture is in the shapes."""
    config = config_of(state, path)
    build = functools.partial(_open_clip().CLIP, **config, quick_gelu=True)
    try:
        with torch.device("meta"):  # shapes without values: forged ones take no memory
            expected = build().state_dict()
    except (ValueError, RuntimeError, AssertionError) as e:
        raise UserError(f"{path}: no CLIP can be built with the shapes of its tensors: {first_line(e)}") from e
    state = fitted(state, expected, path, "the CLIP that its shapes describe")
    model = build()
    model.load_state_dict(state)
    return model


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
