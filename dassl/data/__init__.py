"""Data: datasets, transforms, samplers, loaders. Order and augmentation are functions of (seed, epoch, sample).

What needs torch is imported when it is first asked for: what is known of a dataset is read without it.
"""

from importlib import import_module

from basics.light import install_torchvision

install_torchvision()  # before a module of this package imports it

_NEEDS_TORCH = {
    "data_manager": ("DataManager", "DatasetWrapper", "build_data_loader", "target_of", "turns_photos"),
    "samplers": ("SampleIndex", "SharedBatchSampler", "sampler_of", "set_loader_epoch"),
}
_MODULE_OF = {name: module for module, names in _NEEDS_TORCH.items() for name in names}
__all__ = [*_MODULE_OF]


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
