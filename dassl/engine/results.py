"""``results.json``: the outcome of a run in full precision, with everything needed to tell which run it was."""

import datetime
import os.path as osp
import resource
import sys

import numpy as np
import torch

from basics import UserError
from basics.hashes import digest

from ..evaluation import Classification, MultiLabel
from ..utils import parallel, write_json
from .provenance import data_hash

RESULTS_VERSION = 1


def same_as_recorded(evaluated, folder):
    """Say whether the evaluation of a finished run has given what its record, which stays as it is, says."""
    recorded, path = folder.finished["metrics"], osp.join(folder.folder, "results.json")
    numbers = [name for name in evaluated if isinstance(recorded.get(name), (int, float))]
    other = [name for name in numbers if abs(recorded[name] - float(evaluated[name])) > (0.01 if name == "ece" else 1e-9)]
    if other:
        pairs = ", ".join(f"{name} {recorded[name]:.4f} (now {float(evaluated[name]):.4f})" for name in other)
        print(
            f"WARNING: {path} records {pairs}: another device or other libraries may round otherwise; the record stays as it is"
        )
    else:
        print(f"The same as recorded in {path}, which stays as it is")
    more = [name for name in evaluated if name not in recorded]
    if more:
        pairs = ", ".join(f"{name} {float(evaluated[name]):.4f}" for name in more)
        print(f"Not in that record: {pairs} (--fresh, or another --output-dir, records them)")


def write_results(trainer, evaluated, split, seconds, eval_only):
    """Write ``results.json`` into the trainer's output folder.

    ``evaluated``: what the evaluator returned; ``seconds``: {"train", "test", "total"}.
    """
    cfg, dataset, folder = trainer.cfg, trainer.dm.dataset, trainer._run_folder
    start = folder.record["starts"][-1]
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
        **(dataset.record() if hasattr(dataset, "record") else {}),
        **({"calibration": trainer.evaluator.calibration.bins()} if "ece" in evaluated else {}),
        **({"multi_label": _several_labels(trainer)} if cfg.DATASET.MULTI_LABEL else {}),
        **({"temperature": trainer.evaluator.temperature} if cfg.TEST.CALIBRATE else {}),
        **({"held_out": sorted(dataset.held_out)} if cfg.DATASET.HELD_OUT else {}),
        **trainer.results_extras(),
        "eval_only": eval_only,
        "epochs": cfg.OPTIM.MAX_EPOCH,
        "config": _plain(cfg),
        "versions": {**start["libraries"], "commit": start["code"]["commit"]},
        "code": start["code"],
        "folder": osp.abspath(trainer.output_dir),
        "fingerprint": digest(folder.identity),
        "made_from": folder.record["made_from"],
        "weights": trainer.weights_record(),
        **({"model": trainer._loaded} if eval_only and trainer._loaded else {}),
        "data_hash": data_hash(splits, cfg.DATASET.ROOT),
        "num": {name: len(data) for name, data in splits.items()},
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "device": start["computed_by"]["device"],
        "threads": start["computed_by"]["threads"],
        **({"processes": parallel.world_size()} if parallel.world_size() > 1 else {}),
        "finished_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    write_json(results, osp.join(trainer.output_dir, "results.json"))


def _several_labels(trainer):
    """What probabilities of labels are made with."""
    return {"bias": trainer.label_bias, "threshold": trainer.cfg.TEST.LABEL_THRESHOLD}


def _metrics(evaluated, evaluator, num_classes):
    metrics = {name: float(value) for name, value in evaluated.items()}
    wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
    if wrong:
        raise UserError(f"{', '.join(wrong)} of the evaluation is not finite: there is nothing to record")
    if isinstance(evaluator, Classification):
        true, pred = evaluator.y_true, evaluator.y_pred
        metrics["total"] = len(true)
        metrics["correct"] = int(np.equal(true, pred).sum())
        by_class = evaluator.per_class()
        shares = (by_class.get(label) for label in range(num_classes))
        metrics["per_class_accuracy"] = [100.0 * share[0] / share[1] if share else None for share in shares]
    elif isinstance(evaluator, MultiLabel):
        labels = evaluator.scores()[1]
        metrics["total"], metrics["labels"] = len(labels), int(labels.sum())
        metrics["per_class_ap"] = evaluator.per_class()
    return metrics


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def peak_memory_mb(device):
    """Return the highest memory use so far: allocated on a CUDA device, else resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes
