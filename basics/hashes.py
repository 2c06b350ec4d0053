"""SHA-256 of files, of JSON data, and of tensors."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from .errors import UserError

SMALL = 32 * 2**20  # bytes; less isn't worth several threads


def digest(value):
    """SHA-256 (hex) of JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_hash(path):
    """SHA-256 (hex) of a file. UserError when it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from e


def state_hash(tensors):
    """SHA-256 (hex) of {name: tensor}: names, types, shapes and values."""
    import torch  # loaded already by whoever has tensors

    def one(name):
        tensor = tensors[name].detach().cpu().contiguous()
        values = memoryview(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""
        return f"{name} {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(values).hexdigest()}"

    names = sorted(tensors)
    if sum(t.numel() * t.element_size() for t in tensors.values()) < SMALL:
        return digest([one(name) for name in names])
    with ThreadPoolExecutor() as pool:  # hashing lets other threads work
        return digest(list(pool.map(one, names)))
