"""Errors, files, logging, meters, registries, random state, and reading and writing of checkpoints.

What needs torch is imported when it is first asked for: a configuration or a list of datasets is read without it.
"""

from importlib import import_module

from basics import DamagedFileError, UserError, printable
from basics.safe_pickle import safe_pickle_load, safe_torch_load

from . import images, logger, registry, tools
from .images import *
from .logger import *
from .registry import *
from .tools import *

_NEEDS_TORCH = {
    "meters": ("AverageMeter", "MetricMeter"),
    "rng": ("get_rng_state", "hash_seed", "kept_rng", "seed_rng", "set_rng_state"),
    "torchtools": (
        "count_num_param", "init_network_weights", "load_checkpoint", "load_pretrained_weights", "open_all_layers",
        "open_specified_layers", "resume_from_checkpoint", "save_checkpoint", "to_plain", "torch_save",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _NEEDS_TORCH.items() for name in names}
__all__ = [
    "DamagedFileError",
    "UserError",
    "printable",
    "safe_pickle_load",
    "safe_torch_load",
    *images.__all__,
    *logger.__all__,
    *registry.__all__,
    *tools.__all__,
    *_MODULE_OF,
]


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
