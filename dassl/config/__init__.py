"""The configuration: a tree of settings with defaults, extended by YAML files and ``KEY VALUE`` pairs."""

from .defaults import get_defaults
from .node import CfgNode

__all__ = ["CfgNode", "clean_cfg", "get_cfg_default"]


def get_cfg_default():
    """Return a new tree with every default."""
    return get_defaults()


def clean_cfg(cfg, trainer):
    """Take the sections of the other trainers out of ``cfg.TRAINER``; ``trainer`` (a name) and ``NAME`` stay."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            del cfg.TRAINER[key]
