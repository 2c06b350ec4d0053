"""State that a trainer keeps in plain attributes: step counters, averaged weights, queues of features.

Trainer files written for Dassl know no ``checkpoint_extras``; resumed without such state they would go on with wrong
numbers, silently. So what training has changed in a trainer's public attributes is found and saved with it.
"""

import numpy as np
import torch

# the engine's own; it keeps or rebuilds them itself
_ENGINE_STATE = {"start_epoch", "epoch", "max_epoch", "batch_idx", "num_batches", "best_result", "time_start"}


def _is_data(value):
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and _is_data(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_data(entry) for entry in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub"
    return value is None or isinstance(value, (bool, int, float, str, np.generic, torch.Tensor))


def _fingerprint(value):
    """Return something that compares unequal after ``value`` was changed or replaced."""
    if isinstance(value, dict):
        return {key: _fingerprint(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fingerprint(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return _TensorMark(value) if isinstance(value, torch.Tensor) else value


class _TensorMark:
    """A tensor, held so that no other can take its place in memory, and the number of its changes so far."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.version = -1 if tensor.is_inference() else tensor._version

    def __eq__(self, other):
        return isinstance(other, _TensorMark) and self.tensor is other.tensor and self.version == other.version


def fingerprints(trainer):
    """Return the fingerprints of the attributes of ``trainer`` that are data."""
    public = {k: v for k, v in vars(trainer).items() if not k.startswith("_") and k not in _ENGINE_STATE}
    return {name: _fingerprint(value) for name, value in public.items() if _is_data(value)}


def changed_attributes(trainer, before):
    """Return, packed for a checkpoint, the data attributes whose fingerprints are not those in ``before``."""
    now = fingerprints(trainer)
    changed = [name for name, mark in now.items() if name not in before or mark != before[name]]
    return {name: pack(getattr(trainer, name)) for name in changed}


def pack(value):
    """Return ``value`` with containers, tensors and arrays tagged, so that ``unpack`` gives back the same types."""
    if isinstance(value, dict):
        return {"dict": [[key, pack(entry)] for key, entry in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [pack(entry) for entry in value], "tuple": isinstance(value, tuple)}
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().clone(), "device": value.device.type}
    return value.item() if isinstance(value, np.generic) else value


def unpack(packed, device):
    """Return what was packed; tensors that were not on the CPU go to ``device``."""
    if not isinstance(packed, dict):
        return packed
    if "dict" in packed:
        return {key: unpack(entry, device) for key, entry in packed["dict"]}
    if "list" in packed:
        entries = [unpack(entry, device) for entry in packed["list"]]
        return tuple(entries) if packed["tuple"] else entries
    if "array" in packed:
        return packed["array"].numpy()
    return packed["tensor"] if packed["device"] == "cpu" else packed["tensor"].to(device)


def restore_attributes(trainer, packed):
    """Give ``trainer`` back the attributes that ``changed_attributes`` returned."""
    for name, value in packed.items():
        setattr(trainer, name, unpack(value, getattr(trainer, "device", "cpu")))
