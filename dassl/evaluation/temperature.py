"""Temperature scaling: logits are divided by one number, chosen on validation images (Guo et al., ICML 2017).

It changes no image's order of classes, so accuracy stays as it is; probabilities become as sure as they are right.
"""

import numpy as np
import torch

from ..utils import UserError

LOWEST, HIGHEST = 0.01, 100.0


def fitted_temperature(logits, labels):
    """The T in [LOWEST, HIGHEST] at which the cross-entropy of logits [N, C] / T and labels [N] is lowest; scipy searches."""
    from scipy.optimize import minimize_scalar

    logits, labels = logits.double().cpu(), labels.cpu()
    loss = lambda log: torch.nn.functional.cross_entropy(logits / np.exp(log), labels).item()  # noqa: E731
    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def check_calibrated(trainer):
    """UserError where TEST.CALIBRATE can't be followed: found before hours of training."""
    test, name = trainer.cfg.TEST, trainer.cfg.DATASET.NAME
    if not trainer.gives_logits or not hasattr(trainer.evaluator, "calibration"):
        raise UserError(
            f"TEST.CALIBRATE: {type(trainer).__name__} and TEST.EVALUATOR {test.EVALUATOR} give no probabilities of classes"
        )
    if test.SPLIT == "val":
        raise UserError("TEST.CALIBRATE: with TEST.SPLIT val nothing would be left to evaluate it on; leave one of them out")
    val, tested = ({item.impath for item in data or ()} for data in (trainer.dm.dataset.val, trainer.dm.dataset.test))
    if not val:
        raise UserError(f"TEST.CALIBRATE: {name} has no validation images here; add some, or leave it out")
    if val & tested:
        raise UserError(
            f"TEST.CALIBRATE: {len(val & tested)} validation images of {name} are test images; nothing is chosen on those"
        )


@torch.no_grad()
def validation_temperature(trainer):
    """The temperature of a trainer's model, from its validation images; 1 where all are right: there is no best one then."""
    rows = [(trainer.model_inference(images), labels) for images, labels in map(trainer.parse_batch_test, trainer.val_loader)]
    logits, labels = (torch.cat(part) for part in zip(*rows))
    right = int(logits.argmax(dim=1).eq(labels).sum())
    if right == len(labels):
        print(f"Temperature 1: all {right:,} validation images are right, and any lower one would fit better still")
        return 1.0
    found = fitted_temperature(logits, labels)
    print(f"Temperature {found:.4g}, from {len(labels):,} validation images ({100 * right / len(labels):.1f}% right)")
    return found
