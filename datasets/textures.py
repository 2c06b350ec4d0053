"""Textures: 20 textures with a systematic shift from the built-in model's pre-training; built in."""

from dassl.data.datasets import DATASET_REGISTRY

from .builtin.base import BuiltinDataset


@DATASET_REGISTRY.register()
class Textures(BuiltinDataset):
    """`textures/images/<class>/<part>_<number>.png`, made on first use; see `datasets/builtin/sets.py`."""

    dataset_dir = "textures"
    split_file = "split_zhou_Textures.json"
    counts = (20, 800, 160, 600)
    template = "a photo of a {} texture."
