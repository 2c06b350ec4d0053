"""Loading CLIP: OpenAI's names, open_clip's names, a local folder, a local weight file; frozen, in the precision asked for.

Models, weights and downloads are open_clip's. What is added here: one rule for names and files, the activation, images and
tokenizer that the weights were trained with, messages that say what to do, and the precision of frozen weights.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from basics import UserError, inherited, kept, read_json
from basics.hashes import digest, state_hash
from basics.light import version_in

from . import open_clip_parts
from .activations import replace_quick_gelu
from .architecture import config_of, differing
from .backbones import ACTIVATIONS, Backbone, backbone_of, open_clip_module
from .backbones import OPENAI_NAMES as OPENAI_NAMES  # names that were always here
from .blocks import Block, lower_precision
from .feature_cache import weight_marks
from .folders import HUB, HUB_WEIGHTS, from_hub
from .image_tower import encode_tokens, is_vit, reads_class_token
from .initial_values import ShapesOnly, without_drawing
from .insertions import NOTHING, Insertions
from .resnet import rearrange
from .state_dicts import fitted
from .tokens import Tokenizer, tokenizer_of
from .tower import text_tower
from .weights import OPENAI_CHECKSUMS, check_file, check_finite_weights, first_line, is_torchscript, read_clip, weights_in

READER = 1  # raised when the same file gives other weights
PRECISIONS = ("fp32", "fp16", "amp", "bf16")


class CLIP(nn.Module):
    """A frozen CLIP: image encoder, fast text tower, logit scale.

    Attributes:
        visual: open_clip's image encoder, [B, 3, R, R] -> [B, E]; a ResNet is rearranged (``resnet.rearrange``).
        text: TextTower, or PlainTower for other text towers than CLIP's.
        logit_scale: exp of CLIP's learned temperature, a float (100 for OpenAI's models).
        logit_bias: SigLIP's, which is added to scaled cosines; 0 for others.
        image_size: R, pixels a side.
        embed_dim: E, width of the common space.
        width: D, width of the text transformer.
        dtype: what matrix products are computed in.
        tokenizer: the model's Tokenizer.
        activation: of the text tower's blocks, "gelu" or "quick_gelu".
        layout: of the image encoder's convolutions, "channels last" or "" (as in the file), which decides features' last bits.
        weights: where they come from, as data: ``state_sha256`` of all values in fp32, ``activation``, ``tokenizer`` and, from
            ``load_clip``, what ``check_file`` says of their file, ``config_sha256`` of a model folder, and what says the
            activation and the ``images`` that they were trained with.
        arrangement: text of how the image encoder's computation differs from open_clip's, in last bits; "" where it doesn't.
        identity, marks: what the weights as loaded are a function of (None: not known), and ``weight_marks`` of the image encoder
            then.
    """

    def __init__(self, model, name, precision="fp32", device="cpu", tokenizer=None, identity=None):
        super().__init__()
        self.name, self.precision = name, precision
        state_sha256 = kept.recall("weights", identity) if identity else None
        if state_sha256 is None:
            state = model.state_dict()
            check_finite_weights(state, name)
            state_sha256 = state_hash(state)
            if identity:
                kept.keep("weights", identity, state_sha256)
        self.dtype = _compute_dtype(precision, torch.device(device))
        self.visual = model.visual
        self.text = text_tower(model, name, tokenizer)
        self.tokenizer, self.activation = self.text.tokenizer, self.text.activation
        self.weights = {
            "state_sha256": state_sha256, "activation": self.activation, "tokenizer": self.tokenizer.record()
        }  # fmt: skip
        self.logit_scale = math.exp(float(model.logit_scale.detach().flatten()[0]))
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else float(bias.detach().flatten()[0])
        size = model.visual.image_size
        self.image_size = size[0] if isinstance(size, (tuple, list)) else int(size)
        self.width = self.text.width
        self.requires_grad_(False)
        if self.dtype != torch.float32:
            _lower_precision(self, self.dtype)
        self.to(device).eval()
        replace_quick_gelu(self.visual)
        self.arrangement = rearrange(self.visual, device)
        self._class_token_alone = reads_class_token(self.visual)
        if self._class_token_alone:
            self.arrangement = "class token alone in the last block"
        self.identity, self.marks = identity, weight_marks(self.visual)
        self.embed_dim = self.text.embed_dim

    def train(self, mode=True):
        """Stays in eval mode: batch-norm statistics and drop-out of a pre-trained CLIP never change."""
        return super().train(False)

    def autocast(self):
        """Context in which both encoders compute in the chosen precision."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.text.token_embedding.weight.device.type, dtype=self.dtype)

    def encode_image(
        self, images: torch.Tensor, raw: bool = False, insertions: Insertions | None = None, checkpointing: bool = False
    ) -> torch.Tensor:
        """[B, 3, R, R] normalised pixels -> [B, E] features: fp32, of length 1, unless ``raw``.

        ``insertions``: what a method puts into the encoder's layers.
        """
        with self.autocast():
            if insertions is None and not self._class_token_alone:
                features = self.visual(images)
                features = features[0] if isinstance(features, tuple) else features  # CoCa's gives its tokens, too
            else:
                how = insertions or NOTHING, checkpointing, self.name, self._class_token_alone
                features = encode_tokens(self.visual, images, *how).features
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
        return Block(self.image_blocks[0]).width


def _compute_dtype(precision, device):
    if precision == "fp32" or (precision == "fp16" and device.type == "cpu"):
        return torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float16


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows of x [..., E] divided by their length, in fp32."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x / x.norm(dim=-1, keepdim=True)


def load_clip(name: str, path: str = "", precision: str = "fp32", device: Any = "cpu", activation: str = "") -> CLIP:
    """Load a frozen CLIP.

    Args:
        name: an OpenAI name ("ViT-B/16"), an open_clip "model/pretrained" pair ("ViT-B-16/laion2b_s34b_b88k"), a folder in
            open_clip's or Hugging Face's format (``open_clip_config.json`` or ``config.json``, and weights; "local-dir:" may
            stand before it), relative to the working directory or the project's root, "hf-hub:organisation/model", or a file
            of weights in OpenAI's layout.
        path: a local weight file that is used in place of a download: OpenAI's TorchScript archive (``ViT-B-16.pt``), a
            state dict (``.pt``, ``.pth``, ``.bin``), or ``.safetensors``. In OpenAI's layout the architecture is read off the
            weights; in another layout it is the one ``name`` says.
        precision: "fp32"; "fp16" and "amp" (matrix products in fp16 under autocast, the rest in fp32); "bf16". "fp16", which
            is the lineage's default, means fp32 on a CPU, where half precision is slower and less exact.
        device: where to put it.
        activation: "gelu" or "quick_gelu", in place of what the name says; "" for what it says.

    Raises:
        UserError: unknown name, no such file, no weights and no network, unreadable or unfitting weights, an activation that
            nothing says, a tokenizer that isn't there.
    """
    if precision not in PRECISIONS:
        raise UserError(f'unknown precision "{precision}"; choose one of {", ".join(PRECISIONS)}')
    backbone = backbone_of(name, path)
    path = path or backbone.file
    quick_gelu, said_by = _activation(backbone, path, activation)
    tokenizer = tokenizer_of(backbone)
    if path:
        model, source = _from_file(backbone, path, quick_gelu)
    elif backbone.folder:
        model, source = _from_folder(backbone, quick_gelu)
    else:
        model, source = _from_registry(backbone, quick_gelu)
    clip = CLIP(model, name, precision, torch.device(device), tokenizer, _identity(backbone, source, quick_gelu))
    images = backbone.images and {"said_by": backbone.said_by, **backbone.images.settings(), "SIZE": [clip.image_size] * 2}
    clip.weights = {**source, **clip.weights, "activation_said_by": said_by, "images": images}
    if path and backbone.is_openais and not activation and not _is_openais_file(source):
        print(
            f"WARNING: {path} doesn't say which activation its weights were trained with: QuickGELU is taken, which {name}, as "
            "OpenAI published it, has. MODEL.BACKBONE.ACTIVATION quick_gelu says so, gelu the other (RemoteCLIP's files)"
        )
    if backbone.folder:
        clip.weights["config_sha256"] = digest(read_json(backbone.said_by))
    return clip


def _identity(backbone, source, quick_gelu):
    """What the loaded weights are a function of: the file, and how it is read."""
    return {
        "sha256": source["sha256"], "config": backbone.config, "tag": backbone.tag, "file": bool(backbone.file),
        "quick_gelu": quick_gelu, "open_clip": version_in("open_clip"), "torch": torch.__version__, "reader": READER,
    }  # fmt: skip


def tokenizer_for(name: str, path: str = "") -> Tokenizer:
    """The tokenizer of a backbone, before its weights are there; arguments and errors as of ``load_clip``."""
    return tokenizer_of(backbone_of(name, path))


def _activation(backbone: Backbone, path: str, asked: str) -> tuple[bool, str]:
    """(whether it is QuickGELU, what says so); UserError where nothing does."""
    if asked and asked not in ACTIVATIONS:
        raise UserError(f'unknown activation "{asked}" (MODEL.BACKBONE.ACTIVATION); choose one of {", ".join(ACTIVATIONS)}')
    if asked:
        if backbone.activation not in ("", asked):
            print(f"WARNING: MODEL.BACKBONE.ACTIVATION {asked}, but {backbone.said_by} says {backbone.activation}")
        return asked == "quick_gelu", "MODEL.BACKBONE.ACTIVATION"
    if not backbone.activation:
        what = f"{path} are weights of {backbone.name}, which" if path and not backbone.tag else f"{backbone.name}: its weights"
        raise UserError(
            f"{what} may have been trained with GELU or with QuickGELU, and {backbone.said_by} doesn't settle it: say it with "
            "MODEL.BACKBONE.ACTIVATION gelu or MODEL.BACKBONE.ACTIVATION quick_gelu"
        )
    return backbone.activation == "quick_gelu", backbone.said_by


def _is_openais_file(source):
    """Whether a file is OpenAI's, or in the format in which they alone publish weights."""
    return source["checked"] == "OpenAI" or is_torchscript(source["file"])


def _from_folder(backbone, quick_gelu):
    """(model, what ``check_file`` says) of a folder; of a model of the Hub's the weights are fetched."""
    hub = backbone.name.startswith(HUB)
    path = from_hub(backbone.name, HUB_WEIGHTS) if hub else weights_in(backbone.folder)
    source = check_file(path)
    return _with_weights(backbone, path, quick_gelu), source


def _with_weights(backbone, path, quick_gelu):
    """open_clip's model of a folder or an architecture with the weights of a file. UserError: not built, or they don't fit."""
    if open_clip_parts.is_plain(backbone.config):
        return _plain_with_weights(path, backbone.config, quick_gelu, backbone.name)[0]
    model = _built(backbone, quick_gelu)
    _load(model, read_clip(path), path, backbone.name)
    return model


def _plain_with_weights(path, config, quick_gelu, name):
    """(open_clip's model with the weights of a file, its ``model_cfg``); what a run has inherited is built but not drawn anew.

    ``config``: None where it is read off the weights, which are in OpenAI's layout.
    """
    mark = kept.stamp(path)
    if mark is None:
        return _read_plain(path, mark, config, quick_gelu, name)
    (model, config), ready = inherited.get(_read_plain, path, mark, config, quick_gelu, name)
    if ready:
        _plain(config, quick_gelu, model)
    return model, config


def _read_plain(path, mark, config, quick_gelu, name):
    """``_plain_with_weights``, from the file. mark: of the file; with another one this is another result."""
    state = read_clip(path)
    if config is None:
        config = config_of(state, path)
        return _from_openai_state(state, path, config, quick_gelu), config
    with _building(name):
        model = _plain(config, quick_gelu)
    _load(model, state, path, name)
    return model, config


@contextlib.contextmanager
def _building(name):
    """A block in which open_clip builds a model. UserError: it can't."""
    logging.disable(logging.ERROR)  # open_clip warns that there are no weights; they are loaded next
    try:
        yield
    except Exception as e:
        raise UserError(f"the model of {name} cannot be built: {first_line(e)}") from e
    finally:
        logging.disable(logging.NOTSET)


def _built(backbone, quick_gelu):
    """open_clip's model of a folder or an architecture, without weights. UserError: it can't be built."""
    with _building(backbone.name):
        where = f"local-dir:{backbone.folder}" if backbone.folder else backbone.model
        create = open_clip_module().create_model
        return create(where, load_weights=False, pretrained_text=False, quick_gelu=quick_gelu)


def _plain(config, quick_gelu, ready=None):
    """A CLIP whose weights are loaded next; or ``ready``, such a one that has them."""
    identity = {"config": config, "quick_gelu": quick_gelu, "open_clip": version_in("open_clip")}
    return without_drawing(functools.partial(open_clip_parts.build, config, quick_gelu), identity, ready)


def _from_registry(backbone, quick_gelu):
    name, model, tag = backbone.name, backbone.model, backbone.tag
    cached = _openai_cache(model) if tag == "openai" else None
    if cached:
        source = check_file(cached, OPENAI_CHECKSUMS[os.path.basename(cached)], "OpenAI")
        return _plain_with_weights(cached, None, quick_gelu, name)[0], source
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "QuickGELU mismatch")  # its architecture's default, which isn't taken
            logging.disable(logging.ERROR)
            file = open_clip_parts.downloaded(model, tag)
            source = check_file(file)
            if open_clip_parts.is_plain(backbone.config) and not file.endswith((".npz", ".npy")):  # not Big Vision's
                return _with_weights(backbone, file, quick_gelu), source
            create = open_clip_module().create_model
            return create(model, pretrained=tag, require_pretrained=True, quick_gelu=quick_gelu), source
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
    file = Path.home() / ".cache" / "clip" / f"{model.removesuffix('-quickgelu')}{'px' if '336' in model else ''}.pt"
    return str(file) if file.is_file() else None


def _from_file(backbone, path, quick_gelu):
    if not Path(path).is_file():
        raise UserError(f"MODEL.BACKBONE.PATH: no such file: {path}")
    source = check_file(path)
    if backbone.is_openais or backbone.file:
        model, config = _plain_with_weights(path, None, quick_gelu, backbone.name)
        if others := differing(config, backbone.config):
            print(f"Note: {path} holds a CLIP of its own architecture, not {backbone.name}'s (in brackets): {', '.join(others)}")
        return model, source
    return _with_weights(backbone, path, quick_gelu), source


def _load(model, state, path, name):
    """Put a state dict into an open_clip model. UserError: it doesn't fit."""
    if type(model).__module__.startswith("open_clip."):
        from open_clip.convert import convert_state_dict  # MobileCLIP's published names

        state = convert_state_dict(model, state)
    model.load_state_dict(fitted(state, model.state_dict(), path, name))


def _from_openai_state(state, path, config, quick_gelu):
    """Model from a state dict in OpenAI's layout; ``config``, its architecture, is in the shapes."""
    build = functools.partial(open_clip_parts.build, config, quick_gelu)
    try:
        with torch.device("meta"), ShapesOnly():  # shapes without values: forged ones take no memory
            expected = build().state_dict()
    except (ValueError, RuntimeError, AssertionError) as e:
        raise UserError(f"{path}: no CLIP can be built with the shapes of its tensors: {first_line(e)}") from e
    state = fitted(state, expected, path, "the CLIP that its shapes describe")
    model = _plain(config, quick_gelu)
    model.load_state_dict(state)
    return model


def _lower_precision(model, dtype):
    """Store weights of matrix products in ``dtype``; norms, embeddings and positions stay in fp32 (as openai/CLIP does)."""
    for module in model.modules():
        lower_precision(module, dtype)
    for owner in (model.visual, model.text):
        for name in ("proj", "text_projection"):
            value = getattr(owner, name, None)
            if isinstance(value, nn.Parameter):
                value.data = value.data.to(dtype)
