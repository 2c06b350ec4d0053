"""Shapes: 30 kinds of drawn objects with a systematic shift from the built-in model's pre-training; built in."""

from dassl.data.datasets import DATASET_REGISTRY

from .builtin.base import BuiltinDataset


@DATASET_REGISTRY.register()
class Shapes(BuiltinDataset):
    """`shapes/images/<class>/<part>_<number>.png`, made on first use; see `datasets/builtin/sets.py`."""

    dataset_dir = "shapes"
    split_file = "split_zhou_Shapes.json"
    counts = (30, 1200, 240, 900)
