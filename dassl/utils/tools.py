"""Files, seeds and small helpers that everything else uses."""

import errno
import json
import os
import os.path as osp
import platform
import random
import tempfile
import urllib.request
import warnings
from contextlib import contextmanager
from difflib import get_close_matches

import numpy as np
import PIL
import torch
from PIL import Image, UnidentifiedImageError

from .errors import UserError

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


def nearest(name, known):
    """Return ``" (did you mean …?)"`` for the known name closest to ``name``, or "" when none is close."""
    match = get_most_similar_str_to_a_from_b(name, list(known))
    return f" (did you mean {match}?)" if match else ""


def get_most_similar_str_to_a_from_b(a, b):
    """Return the string in the list ``b`` that is most similar to ``a``, or None when nothing resembles it."""
    by_lower = {str(candidate).lower(): candidate for candidate in b}
    matches = get_close_matches(str(a).lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def check_availability(requested, available):
    """Raise UserError, naming the nearest choice, unless ``requested`` is in ``available``."""
    if requested not in available:
        known = ", ".join(map(str, available))
        raise UserError(f'"{requested}" is not available{nearest(requested, available)}; choose from: {known}')


def tolist_if_not(x):
    """Return ``x`` when it is a list, else a list that holds it."""
    return x if isinstance(x, list) else [x]


def mkdir_if_missing(dirname):
    """Create the folder and its parents; UserError when that is not possible."""
    if not dirname:
        return
    try:
        os.makedirs(dirname, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot create the folder {dirname}: {e.strerror}") from e


def check_isfile(fpath):
    """Return whether ``fpath`` is a file, with a warning when it is not."""
    isfile = osp.isfile(fpath)
    if not isfile:
        warnings.warn(f"No file found at {fpath}", stacklevel=2)
    return isfile


def listdir_nohidden(path, sort=False):
    """Return the names in a folder that do not start with a dot. UserError when there is no such folder."""
    try:
        items = [name for name in os.listdir(path) if not name.startswith(".")]
    except OSError as e:
        raise UserError(f"cannot list the folder {path}: {e.strerror}") from e
    return sorted(items) if sort else items


@contextmanager
def atomic_write(fpath, mode="wb"):
    """Open a file that takes the place of ``fpath`` only when the block ends well and the bytes are on disk.

    UserError when the disk is full or the folder cannot be written; ``fpath`` is then as it was before.
    """
    folder = osp.dirname(fpath) or "."
    mkdir_if_missing(folder)
    tmp = None
    try:
        fd, tmp = tempfile.mkstemp(prefix=f".{osp.basename(fpath)}.", suffix=".tmp", dir=folder)
        with os.fdopen(fd, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(tmp, 0o666 & ~umask)  # mkstemp makes files private
        os.replace(tmp, fpath)
        tmp = None
    except OSError as e:
        reason = "no space left on the disk" if e.errno in (errno.ENOSPC, errno.EDQUOT) else e.strerror or str(e)
        raise UserError(f"cannot write {fpath}: {reason}; what was there before is unchanged") from e
    finally:
        if tmp is not None and osp.exists(tmp):
            os.unlink(tmp)


def read_json(fpath):
    """Read a JSON file. UserError names the file (and line) when it is missing or malformed."""
    try:
        with open(fpath, encoding="utf-8") as f:
            return json.load(f)
    except OSError as e:
        raise UserError(f"cannot read {fpath}: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise UserError(f"{fpath}, line {e.lineno}: not valid JSON ({e.msg})") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{fpath}: not a text file in UTF-8") from e
    except (RecursionError, ValueError) as e:  # brackets without end, a number of thousands of digits
        raise UserError(f"{fpath}: not JSON that can be read ({e})") from e


def write_json(obj, fpath):
    """Write ``obj`` as JSON; the file is replaced atomically."""
    text = json.dumps(obj, indent=4, separators=(",", ": "))
    with atomic_write(fpath, "w") as f:
        f.write(text)


def set_random_seed(seed):
    """Seed Python's, NumPy's and PyTorch's generators (all devices)."""
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


def read_image(path):
    """Return the image file as a PIL image in RGB. UserError names a file that is missing or cannot be decoded."""
    try:
        with Image.open(path) as img:
            return img.convert("RGB")
    except FileNotFoundError as e:
        raise UserError(f"image not found: {path}") from e
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise UserError(f"cannot read the image {path}: {e}") from e


def collect_env_info():
    """Return a text on Python, the libraries and the devices, for the head of a log."""
    import torchvision

    lines = [
        f"Python: {platform.python_version()} ({platform.platform()})",
        f"PyTorch: {torch.__version__} (threads: {torch.get_num_threads()})",
        f"torchvision: {torchvision.__version__}",
        f"NumPy: {np.__version__}",
        f"Pillow: {PIL.__version__}",
        f"CUDA available: {torch.cuda.is_available()} (built with: {torch.version.cuda})",
    ]
    if torch.cuda.is_available():
        lines.append(f"cuDNN: {torch.backends.cudnn.version()}")
        lines += [f"GPU {i}: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return "\n".join(lines)
