"""What a backbone's name says before its weights are read: architecture, activation, images, tokenizer.

Names are OpenAI's ("ViT-B/16"), open_clip's model/pretrained pairs ("ViT-B-16/dfn2b"), open_clip's architectures where a file of
weights is given ("ViT-B-32"), folders in open_clip's or Hugging Face's format ("local-dir:" may stand before them), models of the
Hub's ("hf-hub:organisation/model"), and files of weights. open_clip's own entry of a pair says which activation and which images
the weights were trained with; a folder's configuration says it of the folder's.
"""

from __future__ import annotations

import copy
import logging
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from basics import UserError, nearest

from . import open_clip_parts
from .folders import CONFIGS, folder_config, model_folder
from .preprocessing import Preprocessing

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
ACTIVATIONS = ("gelu", "quick_gelu")


@dataclass(frozen=True)
class Backbone:
    """A name, and what it says.

    Attributes:
        name: as the user writes it.
        folder: a local folder in open_clip's format, or None.
        model, tag: open_clip's architecture and pre-trained weights; "" for a folder, no tag for an architecture.
        config: open_clip's ``model_cfg``.
        activation: "gelu" or "quick_gelu", what the weights were trained with in the layers that open_clip builds; "" where
            nothing says it.
        images: Preprocessing; None where nothing says it.
        said_by: what says both, for messages and records; of a folder its configuration's file.
        file: the file of weights that the name is, or "".
    """

    name: str
    folder: Path | None
    model: str
    tag: str
    config: dict[str, Any] = field(repr=False)
    activation: str
    images: Preprocessing | None
    said_by: str
    file: str = ""

    @property
    def is_openais(self) -> bool:
        """Whether the name means weights of OpenAI's."""
        return self.tag == "openai"


def open_clip_module():
    import open_clip

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))
    return open_clip


def backbone_of(name: str, path: str = "") -> Backbone:
    """What a backbone's name says.

    Args:
        name: see ``load_clip``.
        path: a local file of weights, with which the name of an architecture is enough.

    Raises:
        UserError: unknown name, or a configuration that can't be read.
    """
    folder = None if name in OPENAI_NAMES and not any(Path(name, file).is_file() for file in CONFIGS) else model_folder(name)
    if folder:
        return _of_folder(name, folder)
    if Path(name).is_file():
        return _of_file(name)
    model, tag = resolve(name, bool(path))
    config = copy.deepcopy(open_clip_parts.configs().get(model))
    if config is None:  # open_clip 4 has models of sound
        raise UserError(f"{name}: {model} has no image encoder of CLIP's kind; choose a CLIP backbone such as ViT-B/16 or RN50")
    size = config["vision_cfg"].get("image_size", 224)
    if tag:
        entry = open_clip_parts.pretrained_entry(model, tag)
        where = "OpenAI" if name in OPENAI_NAMES else f"open_clip's entry {model}/{tag}"
        activation = _said_activation(config, [entry])
        return Backbone(name, None, model, tag, config, activation, Preprocessing.read(entry, size, where), where)
    entries = [open_clip_parts.pretrained_entry(model, each) for owner, each in open_clip_parts.pairs() if owner == model]
    images = {Preprocessing.read(entry, size, model) for entry in entries}
    where = f"all of open_clip's entries of {model}"
    return Backbone(
        name, None, model, "", config, _said_activation(config, entries), images.pop() if len(images) == 1 else None, where
    )


def known_backbone(name: str, path: str = "") -> Backbone | None:
    """``backbone_of``, or None for a name that isn't a CLIP's."""
    try:
        return backbone_of(name, path) if name else None
    except UserError:
        return None


def _said_activation(config, entries):
    """The activation that an architecture and the entries of its weights say; "" where they don't agree.

    An entry without the field means GELU, as in open_clip, but not against an architecture that has QuickGELU.
    """
    own = bool(config.get("quick_gelu", False))
    said = {bool(entry.get("quick_gelu", False)) for entry in entries} or {own}
    return "" if len(said) > 1 or (own and False in said) else ACTIVATIONS[said.pop()]


def _of_folder(name, folder):
    config, images, file = folder_config(folder)
    if images is not None:
        images = Preprocessing.read(images, config["vision_cfg"].get("image_size", 224), str(file))
    return Backbone(name, folder, "", "", config, ACTIVATIONS[bool(config.get("quick_gelu", False))], images, str(file))


def _of_file(name):
    """What a file of weights in OpenAI's layout says itself; OpenAI alone publish TorchScript archives."""
    stat = os.stat(name)
    config, archive = _file_config(name, stat.st_mtime_ns, stat.st_size)
    images = Preprocessing.read({}, config["vision_cfg"]["image_size"], name) if archive else None
    return Backbone(name, None, "", "", config, "quick_gelu" if archive else "", images, name, file=name)


@lru_cache(maxsize=4)
def _file_config(name, changed, size):
    """(``model_cfg``, whether it is a TorchScript archive) of a file, which is large: read once until it changes."""
    from .architecture import config_of
    from .weights import is_torchscript, read_clip  # need torch

    return config_of(read_clip(name), name), is_torchscript(name)


def resolve(name: str, with_file: bool = False) -> tuple[str, str]:
    """Backbone name -> (open_clip model name, pretrained tag); no tag for an architecture ``with_file`` of weights."""
    if name in OPENAI_NAMES:
        return OPENAI_NAMES[name], "openai"
    pairs, architectures = open_clip_parts.pairs(), open_clip_parts.architectures()
    model, _, tag = name.rpartition("/")
    if model and (model, tag) in pairs:
        return model, tag
    if with_file and name in architectures:
        return name, ""
    if model in architectures or name in architectures:
        arch = model if model in architectures else name
        tags = [t for m, t in pairs if m == arch]
        raise UserError(
            f'backbone "{name}": open_clip\'s {arch} needs one of its pre-trained weights, e.g. "{arch}/{tags[0]}"'
            f"{nearest(tag, tags)} (it has: {', '.join(tags)}), or a file of weights (MODEL.BACKBONE.PATH)"
            if tags
            else f'backbone "{name}": open_clip has no weights for {arch}; give a file of weights (MODEL.BACKBONE.PATH)'
        )
    known = [*OPENAI_NAMES, *(f"{m}/{t}" for m, t in pairs)]
    raise UserError(
        f'unknown backbone "{name}" (MODEL.BACKBONE.NAME){nearest(name, known, most=3)}; '
        f"OpenAI's names are {', '.join(OPENAI_NAMES)}; "
        "an open_clip model/pretrained pair, hf-hub:organisation/model, a model's folder or a file of weights will do as well."
    )
