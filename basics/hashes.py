"""SHA-256 of files, of JSON data, and of tensors."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from .errors import UserError

SMALL = 32 * 2**20  # bytes; less isn't worth several threads
NOT_IN_RUNS = ("benchmarks", "mocoop", "reproduce", "tests")  # packages that compute no number of a run


def digest(value):
    """SHA-256 (hex) of JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_hash(path):
    """SHA-256 (hex) of a file. UserError when it can't be read."""
    try:
        with open(path, "rb") as file:
            whole = hashlib.sha256()
            while block := file.read(1 << 20):
                whole.update(block)
            return whole.hexdigest()
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from e


def source_hash(folder, program):
    """SHA-256 (hex) of the source that computes a run's numbers: the packages in a folder (paths), and train.py, ``program``."""
    packages = [path.parent for path in folder.glob("*/__init__.py") if path.parent.name not in NOT_IN_RUNS]
    files = sorted([program, *(path for package in packages for path in package.rglob("*.py"))])
    return hashlib.sha256("".join(f"{path.relative_to(folder)} {file_hash(path)}\n" for path in files).encode()).hexdigest()


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
