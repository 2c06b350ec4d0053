"""The tiny CLIPs that the golden numbers were measured on, generated: nothing is stored but names and shapes.

Every weight is ``(offset + scale * x)`` rounded through fp16, with x drawn from a generator seeded by the entry's name;
manifests hold each entry's shape, first values and the start of its sha256, so a drift of the generator is noticed.
"""

import hashlib
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def standard_normal(seed_text, shape):
    """Draws that depend on the text alone (float64)."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(seed_text.encode()))).standard_normal(shape)


def _offset_and_scale(name, shape):
    parts = name.split(".")
    leaf, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    in_downsample_norm = "downsample" in parts and before == "1"
    if any(p.startswith("ln_") or p.startswith("bn") for p in parts) or in_downsample_norm:
        return {"weight": (1, 0.1), "bias": (0, 0.1), "running_mean": (0, 0.1), "running_var": (1, 0)}[leaf]
    if name == "token_embedding.weight":
        return 0, 0.02
    if name == "positional_embedding":
        return 0, 0.01
    if leaf in ("positional_embedding", "class_embedding"):
        return 0, shape[-1] ** -0.5
    if leaf in ("bias", "in_proj_bias"):
        return 0, 0.02
    if leaf in ("text_projection", "proj"):
        return 0, shape[0] ** -0.5
    return 0, math.prod(shape[1:]) ** -0.5


def state_dict(backbone):
    """State dict in OpenAI's layout of "tiny_clip_vit", "tiny_clip_rn" or a manifest's file; checked against the manifest."""
    state = {}
    for name, entry in _entries(backbone).items():
        shape = entry["shape"]
        if name == "logit_scale":
            value = np.float32(math.log(100))
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        else:
            offset, scale = _offset_and_scale(name, shape)
            value = (offset + scale * standard_normal(name, shape)).astype(np.float16).astype(np.float32)
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        expected = entry.get("sha") or entry.get("sha256")
        assert expected is None or digest == expected, f"{name}: the generated weight differs from the manifest's"
        state[name] = torch.tensor(value)
    return state


def _entries(backbone):
    file = backbone if isinstance(backbone, Path) else HERE / f"{backbone}.manifest.json"
    return json.loads(file.read_text())


def images(k, size, count):
    """Batch k of the golden inputs: [count, 3, size, size]."""
    x = standard_normal(f"batch:{k}", (4, 3, size, size)).astype(np.float32)[:count]
    return torch.from_numpy(x)


def labels(k, n_cls, count):
    """Labels of batch k: [count]."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"labels:{k}".encode())))
    return torch.from_numpy(rng.integers(0, n_cls, size=4)[:count])
