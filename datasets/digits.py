"""Digits: scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in chalk: real handwriting, built in."""

from dassl.data.datasets import DATASET_REGISTRY

from .builtin.base import BuiltinDataset


@DATASET_REGISTRY.register()
class Digits(BuiltinDataset):
    """`digits/images/<class>/<part>_<number>.png`, made on first use; see `datasets/builtin/sets.py`."""

    dataset_dir = "digits"
    split_file = "split_zhou_Digits.json"
    counts = (10, 500, 100, 1197)
