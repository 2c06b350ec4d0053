"""Reads the predictions that a run with ``--save-predictions`` has left beside its results."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basics import DamagedFileError, UserError

from .run import read_run


@dataclass(frozen=True)
class Saved:
    """logits: [N, C] float32 array; labels: [N] (where images have several, [N, C] of 0 and 1); images: [N] paths below
    DATASET.ROOT; classnames: [C]; split: test or val."""

    logits: Any
    labels: Any
    images: list[str]
    classnames: list[str]
    split: str


def read_predictions(run: str | Path) -> Saved:
    """The predictions in a run's folder.

    Raises:
        UserError: there are none, or they belong to another run; DamagedFileError: the file isn't whole.
    """
    from safetensors import SafetensorError, safe_open

    from dassl.engine.predictions import FILE, FORMAT

    results, path = read_run(run), os.path.join(run, FILE)
    if not os.path.isfile(path):
        raise UserError(
            f"{run} has no {FILE}: the same train.py command with --save-predictions evaluates it again and writes it"
        )
    try:
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            logits, labels = file.get_tensor("logits"), file.get_tensor("labels")
        images, classnames = json.loads(about["images"]), json.loads(about["classnames"])
    except (SafetensorError, KeyError, ValueError) as e:
        raise DamagedFileError(f"{path}: damaged, or not written by --save-predictions ({e})") from e
    if (
        about.get("format") != FORMAT
        or logits.shape != (len(images), len(classnames))
        or labels.shape not in ((len(images),), logits.shape)
    ):
        raise DamagedFileError(f"{path}: not in the form that --save-predictions writes ({FORMAT})")
    if about.get("fingerprint") != results.get("fingerprint"):
        raise UserError(f"{path} is of another run than results.json beside it; run train.py with --save-predictions again")
    return Saved(logits, labels, images, classnames, about.get("split", ""))
