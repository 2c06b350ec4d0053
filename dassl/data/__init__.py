"""Data: datasets, transforms, samplers, loaders. Order and augmentation are functions of (seed, epoch, sample)."""

from .data_manager import DataManager, DatasetWrapper, build_data_loader
from .samplers import SampleIndex, SharedBatchSampler, sampler_of, set_loader_epoch

__all__ = [
    "DataManager", "DatasetWrapper", "SampleIndex", "SharedBatchSampler", "build_data_loader", "sampler_of",
    "set_loader_epoch",
]  # fmt: skip
