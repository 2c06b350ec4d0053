"""The registry of datasets."""

from ...utils import Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """Return the dataset named by ``cfg.DATASET.NAME``."""
    dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return dataset(cfg)
