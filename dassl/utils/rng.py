"""Random state: seeds derived from names, saving and restoring, and a block with a random state of its own."""

import hashlib
import random
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["get_rng_state", "hash_seed", "kept_rng", "seed_rng", "set_rng_state"]


def hash_seed(*parts):
    """Return a 63-bit integer that is a function of ``parts`` (numbers or strings) alone."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def _cpu_state():
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_cpu_state(state):
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def seed_rng(seed):
    """Seed Python's, NumPy's and PyTorch's CPU generators."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, leaves the GPUs alone


@contextmanager
def kept_rng():
    """Run a block after which Python's, NumPy's and PyTorch's CPU generators are as they were; this takes 0.1 ms or more."""
    state = _cpu_state()
    try:
        yield
    finally:
        _set_cpu_state(state)


def get_rng_state():
    """Return the state of all generators as plain numbers and tensors, for a checkpoint."""
    py, npy, cpu = _cpu_state()
    state = {
        "python": [py[0], list(py[1]), py[2]],
        "numpy": [npy[0], torch.from_numpy(npy[1].astype(np.int64)), int(npy[2]), int(npy[3]), float(npy[4])],
        "torch": cpu,
        "cuda": [],
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state):
    """Restore what ``get_rng_state`` returned (GPUs that this machine lacks are passed over)."""
    py, npy = state["python"], state["numpy"]
    _set_cpu_state(
        (
            (py[0], tuple(py[1]), py[2]),
            (npy[0], npy[1].cpu().numpy().astype(np.uint32), npy[2], npy[3], npy[4]),
            state["torch"].cpu(),
        )
    )
    if torch.cuda.is_available():
        for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)
