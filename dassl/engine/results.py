"""``results.json``: the outcome of a run in full precision, with everything needed to tell which run it was."""

import datetime
import hashlib
import importlib.metadata
import json
import os.path as osp
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision

from ..evaluation import Classification
from ..utils import parallel, write_json

RESULTS_VERSION = 1


def write_results(trainer, evaluated, split, seconds, eval_only):
    """Write ``results.json`` into the trainer's output folder.

    ``evaluated``: what the evaluator returned; ``seconds``: {"train", "test", "total"}.
    """
    cfg, dataset = trainer.cfg, trainer.dm.dataset
    splits = {name: getattr(dataset, name) or [] for name in ("train_x", "val", "test")}
    results = {
        "version": RESULTS_VERSION,
        "status": "finished",
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "split": split,
        "metrics": _metrics(evaluated, trainer.evaluator, trainer.num_classes),
        "classnames": list(dataset.classnames),
        **trainer.results_extras(),
        "eval_only": eval_only,
        "epochs": cfg.OPTIM.MAX_EPOCH,
        "config": _plain(cfg),
        "versions": _versions(),
        "data_hash": data_hash(splits, cfg.DATASET.ROOT),
        "num": {name: len(data) for name, data in splits.items()},
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "device": _device_name(trainer.device),
        **({"processes": parallel.world_size()} if parallel.world_size() > 1 else {}),
        "finished_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    write_json(results, osp.join(trainer.output_dir, "results.json"))


def data_hash(splits, root):
    """Return the sha256 of the splits' (path relative to ``root``, label, class name), in their order."""
    root = osp.abspath(osp.expanduser(root))
    digest = hashlib.sha256()
    for name, data in splits.items():
        rows = [[osp.relpath(item.impath, root), item.label, item.classname] for item in data]
        digest.update(json.dumps([name, rows]).encode())
    return digest.hexdigest()


def _metrics(evaluated, evaluator, num_classes):
    metrics = {name: float(value) for name, value in evaluated.items()}
    if isinstance(evaluator, Classification):
        true, pred = evaluator.y_true, evaluator.y_pred
        metrics["total"] = len(true)
        metrics["correct"] = int(np.equal(true, pred).sum())
        by_class = evaluator.per_class()
        shares = (by_class.get(label) for label in range(num_classes))
        metrics["per_class_accuracy"] = [100.0 * share[0] / share[1] if share else None for share in shares]
    return metrics


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _versions():
    try:
        open_clip = importlib.metadata.version("open_clip_torch")
    except importlib.metadata.PackageNotFoundError:
        open_clip = None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "open_clip": open_clip,
        "numpy": np.__version__,
        "commit": _commit(),
    }


def _commit():
    """Return the commit of the code, or None outside a git checkout."""
    folder = Path(__file__).resolve().parent
    try:
        git = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() or None


def peak_memory_mb(device):
    """Return the highest memory use so far: allocated on a CUDA device, else resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes


def _device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
