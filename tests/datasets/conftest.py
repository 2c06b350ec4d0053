"""Fixtures of the dataset tests."""

import pytest

import datasets  # noqa: F401  (registers them)
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY


@pytest.fixture
def make_cfg(tmp_path):
    """Function (name, **DATASET keys, seed) -> config whose data folder is the test's own."""

    def make(name, seed=1, **keys):
        cfg = get_cfg_default()
        cfg.DATASET.NAME = name
        cfg.DATASET.ROOT = str(tmp_path)
        cfg.SEED = seed
        for key, value in keys.items():
            cfg.DATASET[key] = value
        return cfg

    return make


@pytest.fixture
def build(make_cfg):
    """Function that builds the dataset of `make_cfg`'s arguments."""

    def make(name, **keys):
        return DATASET_REGISTRY.get(name)(make_cfg(name, **keys))

    return make
