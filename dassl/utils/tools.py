"""Files, seeds and small helpers that everything else uses."""

import os.path as osp
import platform
import random
import urllib.request
import warnings

import numpy as np
import PIL

from basics import (
    UserError,
    atomic_write,
    closest,
    listdir_nohidden,
    mkdir_if_missing,
    nearest,
    read_json,
    write_json,
)
from basics.light import version_in

from .images import read_image  # Dassl has it here

__all__ = [
    "atomic_write",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "nearest",
    "read_image",
    "read_json",
    "set_random_seed",
    "tolist_if_not",
    "write_json",
]


def get_most_similar_str_to_a_from_b(a, b):
    """Return the string in the list ``b`` that is most similar to ``a``, or None when nothing resembles it."""
    return next(iter(closest(a, b)), None)


def check_availability(requested, available):
    """Raise UserError, naming the nearest choice, unless ``requested`` is in ``available``."""
    if requested not in available:
        known = ", ".join(map(str, available))
        raise UserError(f'"{requested}" is not available{nearest(requested, available)}; choose from: {known}')


def tolist_if_not(x):
    """Return ``x`` when it is a list, else a list that holds it."""
    return x if isinstance(x, list) else [x]


def check_isfile(fpath):
    """Return whether ``fpath`` is a file, with a warning when it is not."""
    isfile = osp.isfile(fpath)
    if not isfile:
        warnings.warn(f"No file found at {fpath}", stacklevel=2)
    return isfile


def set_random_seed(seed):
    """Seed Python's, NumPy's and PyTorch's generators (all devices)."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def download_url(url, dst):
    """Download ``url`` to the file ``dst``, which appears only when it is complete. UserError when that fails."""
    print(f'* url="{url}"')
    print(f'* destination="{dst}"')
    try:
        with urllib.request.urlopen(url) as response, atomic_write(dst) as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
    except (OSError, ValueError) as e:
        raise UserError(f"cannot download {url}: {e}; download it by other means and put it at {dst}") from e


def collect_env_info():
    """Return a text on Python, the libraries and the devices, for the head of a log."""
    import torch

    lines = [
        f"Python: {platform.python_version()} ({platform.platform()})",
        f"PyTorch: {torch.__version__} (threads: {torch.get_num_threads()})",
        f"torchvision: {version_in('torchvision')}",
        f"NumPy: {np.__version__}",
        f"Pillow: {PIL.__version__}",
        f"CUDA available: {torch.cuda.is_available()} (built with: {torch.version.cuda})",
    ]
    if torch.cuda.is_available():
        lines.append(f"cuDNN: {torch.backends.cudnn.version()}")
        lines += [f"GPU {i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return "\n".join(lines)
