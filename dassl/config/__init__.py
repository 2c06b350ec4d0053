"""The configuration: a tree of declared settings, extended by methods, YAML files and ``KEY VALUE`` pairs."""

from .check import IMAGE_KEYS, check, remarks
from .defaults import get_defaults
from .node import CfgNode, section, was_given
from .schema import Key, binding_keys, key, keys_of

__all__ = [
    "CfgNode", "IMAGE_KEYS", "Key", "binding_keys", "check", "clean_cfg", "get_cfg_default", "key", "keys_of", "remarks",
    "section", "was_given",
]  # fmt: skip


def get_cfg_default():
    """Return a new tree with every default."""
    return get_defaults()


def clean_cfg(cfg, trainer):
    """Take the sections of the other trainers out of ``cfg.TRAINER``; ``trainer`` (a name) and ``NAME`` stay."""
    for name in list(cfg.TRAINER):
        if name not in ("NAME", trainer.upper()):
            del cfg.TRAINER[name]
