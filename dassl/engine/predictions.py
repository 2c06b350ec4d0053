"""``predictions.safetensors``: the scores of every evaluated image, beside the results of the run."""

import json
import os.path as osp

from basics import UserError, atomic_path
from basics.hashes import digest

from ..data import target_of
from ..evaluation import Classification, MultiLabel

FILE = "predictions.safetensors"
FORMAT = "mocoop predictions 1"


def check_can_save(trainer):
    """UserError where TEST.SAVE_PREDICTIONS can't be followed: found before hours of training."""
    cfg = trainer.cfg
    if not isinstance(trainer.evaluator, (Classification, MultiLabel)):
        raise UserError(f"TEST.SAVE_PREDICTIONS: TEST.EVALUATOR {cfg.TEST.EVALUATOR} keeps no scores; set it to Classification")
    if cfg.TEST.NO_TEST:
        raise UserError(
            "TEST.SAVE_PREDICTIONS (--save-predictions) and TEST.NO_TEST: without an evaluation there are no predictions"
        )
    if cfg.DATALOADER.TEST.SAMPLER != "SequentialSampler":
        raise UserError(
            f"TEST.SAVE_PREDICTIONS: with DATALOADER.TEST.SAMPLER {cfg.DATALOADER.TEST.SAMPLER} nothing says which scores are "
            "whose; set it to SequentialSampler"
        )


def save_predictions(trainer, split):
    """Write the scores that the evaluator has kept into the trainer's output folder.

    Tensors: ``logits`` [N, C] float32, ``labels`` [N] (where images have several, [N, C] of 0 and 1). Metadata: ``images``, JSON
    list of N paths relative to DATASET.ROOT; ``classnames``, JSON list of C; ``split``; ``fingerprint``, that of results.json.
    """
    from safetensors.torch import save_file

    items = trainer.dm.dataset.val if split == "val" else trainer.dm.dataset.test
    logits, labels = trainer.evaluator.scores()
    targets = [target_of(item) for item in items]
    if labels.tolist() != [target.tolist() if hasattr(target, "tolist") else target for target in targets]:
        raise UserError(
            f"TEST.SAVE_PREDICTIONS: {type(trainer).__name__} evaluates images in an order of its own, which isn't known"
        )
    root = osp.abspath(osp.expanduser(trainer.cfg.DATASET.ROOT))
    about = {
        "format": FORMAT,
        "images": json.dumps([osp.relpath(item.impath, root) for item in items]),
        "classnames": json.dumps(list(trainer.dm.dataset.classnames)),
        "split": split,
        "fingerprint": digest(trainer._run_folder.identity),
    }
    path = osp.join(trainer.output_dir, FILE)
    with atomic_path(path) as part:
        save_file({"logits": logits, "labels": labels}, part, about)
    print(f"Predictions of {len(labels):,} images are saved to {path}")
