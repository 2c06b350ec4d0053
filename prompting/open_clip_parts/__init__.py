"""CLIP's classes, tokenizer and tables of open_clip, without what ``import open_clip`` imports beside them: timm and torchvision.

This package's folder is followed by that of open_clip in its ``__path__``: ``open_clip_parts.model`` is open_clip's file
``model.py``, run once more under this name. Its relative imports lead here, so that three of open_clip's modules, which import
those libraries, have stand-ins: ``timm_model``, ``hf_model`` and ``utils``. A model that needs one of the first two is built by
open_clip itself, which this package neither imports nor changes.
"""

import contextlib
import importlib
import importlib.util
import json
import sys
from functools import lru_cache
from pathlib import Path

from ..reach import hub_at_hand

_OPEN_CLIP = [str(place) for place in getattr(importlib.util.find_spec("open_clip"), "submodule_search_locations", None) or ()]
__path__ = [*__path__, *_OPEN_CLIP]
_PLAIN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias"}  # of a ``model_cfg``
_OTHERS = ("timm_model_name", "hf_model_name")


def is_plain(config):
    """Whether open_clip's ``model_cfg`` means its class ``CLIP`` with towers of its own."""
    return set(config) <= _PLAIN and not any(config[tower].get(name) for tower in ("vision_cfg", "text_cfg") for name in _OTHERS)


def build(config, quick_gelu):
    """A CLIP with random weights. ``config``: a ``model_cfg`` that ``is_plain``."""
    from .model import CLIP

    return CLIP(**{**config, "quick_gelu": quick_gelu})


@lru_cache(maxsize=1)
def configs():
    """{architecture: open_clip's ``model_cfg``} of all that open_clip has; of images and texts."""
    found = {}
    for folder in _OPEN_CLIP:
        for file in sorted(Path(folder, "model_configs").glob("*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            if {"embed_dim", "vision_cfg", "text_cfg"} <= content.keys():
                found[file.stem] = content
    return found


def architectures():
    """Names of open_clip's architectures; of images and texts."""
    return list(configs())


def _tables():
    with stand_in("huggingface_hub", None):  # which fetches weights; tables need none
        from . import pretrained
    return pretrained


def pairs():
    """[(architecture, tag)] of all pre-trained weights that open_clip knows."""
    return _tables().list_pretrained()


def pretrained_entry(model, tag):
    """open_clip's entry of pre-trained weights."""
    return _tables().get_pretrained_cfg(model, tag)


def downloaded(model, tag):
    """Path of a pair's weights, fetched by open_clip if need be. Raises what it raises without network."""
    entry = pretrained_entry(model, tag)
    if not entry.get("hf_hub"):
        return _tables().download_pretrained(entry)
    with hub_at_hand() as why:
        try:
            return importlib.reload(_tables()).download_pretrained(entry)  # this time with the Hub's client
        except Exception as e:
            if not why:
                raise
            raise OSError(why) from e


@contextlib.contextmanager
def stand_in(name, module):
    """``module`` in the place of one that hasn't been imported yet; None: importing it fails."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
