"""Expected calibration error and its bins, and where they are told."""

import numpy as np
import pytest
import torch

from dassl.config import get_cfg_default
from dassl.evaluation import Classification
from dassl.evaluation.calibration import BINS, Calibration


def naive(probabilities, labels):
    """Guo et al., Eq. 3, image by image and bin by bin."""
    total = 0.0
    for number in range(BINS):
        inside = [
            (p.max(), p.argmax() == y) for p, y in zip(probabilities, labels) if number / BINS < p.max() <= (number + 1) / BINS
        ]
        if inside:
            confidence, correct = map(np.mean, zip(*inside))
            total += len(inside) / len(labels) * abs(correct - confidence)
    return 100 * total


@pytest.mark.parametrize("scale", [0.1, 1, 5, 100])
def test_error_is_the_papers(scale):
    generator = torch.Generator().manual_seed(1)
    logits = scale * torch.randn(500, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (500,), generator=generator)
    calibration = Calibration()
    for part in range(0, 500, 64):
        calibration.add(logits[part : part + 64], labels[part : part + 64])
    assert calibration.error() == pytest.approx(naive(logits.softmax(1).numpy(), labels.numpy()), abs=1e-9)
    assert sum(found["images"] for found in calibration.bins()) == 500


def test_certainty_and_halves():
    """Ten images at confidence 1, eight of them right; ten at 1/2 of two classes, five right."""
    calibration = Calibration()
    calibration.add(torch.tensor([[1000.0, 0.0]]).repeat(10, 1), torch.tensor([0] * 8 + [1] * 2))
    calibration.add(torch.zeros(10, 2), torch.tensor([0] * 5 + [1] * 5))
    low, high = calibration.bins()
    assert (low["confidence"], low["accuracy"]) == (0.5, 0.5) and (high["confidence"], high["accuracy"]) == (1.0, 0.8)
    assert calibration.error() == pytest.approx(10.0)


def test_only_logits_are_judged(capsys):
    evaluator = Classification(get_cfg_default(), lab2cname={0: "a", 1: "b"})
    evaluator.process(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    assert "ece" not in evaluator.evaluate()
    evaluator.gives_logits = True
    evaluator.reset()
    evaluator.process(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    assert evaluator.evaluate()["ece"] == pytest.approx(100 / (1 + np.exp(3)))
    assert "* ece: 4.7%" in capsys.readouterr().out
