"""How right predictions are where the classes of images are known."""

from collections.abc import Sequence
from typing import Any

TOP = 5
FAR_OFF = 5.0  # per cent of expected calibration error: from here on probabilities mislead


class Scores:
    """Truth and prediction of the images seen so far.

    Args:
        classnames: [C] the classes that were chosen among.

    Attributes:
        true, predicted: [N] labels. among: [N] whether the true one is among the five highest scores.
    """

    def __init__(self, classnames: Sequence[str]) -> None:
        self.classnames = list(classnames)
        self.true: list[int] = []
        self.predicted: list[int] = []
        self.among: list[bool] = []

    def add(self, logits: Any, labels: Sequence[int]) -> None:
        """Add images: logits [N, C], their labels [N]."""
        import torch

        if len(labels):
            true = torch.as_tensor(labels)[:, None]
            self.true += list(labels)
            self.predicted += logits.argmax(dim=1).tolist()
            self.among += logits.topk(min(TOP, len(self.classnames)), dim=1)[1].eq(true).any(dim=1).tolist()

    def report(self) -> dict[str, Any]:
        """Accuracy, top-5 (where there are more than five classes) and macro F1 in per cent, and for each class its images,
        precision, recall and F1 in per cent; None where nothing was predicted to be, or is, of the class."""
        import numpy as np

        per_cent = lambda x: None if np.isnan(x) else 100.0 * float(x)  # noqa: E731
        hits = [t for t, p in zip(self.true, self.predicted) if t == p]
        right, true, predicted = (np.bincount(x, minlength=len(self.classnames)) for x in (hits, self.true, self.predicted))
        with np.errstate(invalid="ignore"):  # counted here: what scikit-learn says of 0 / 0 changed between its versions
            precision, recall, f1 = right / predicted, right / true, 2 * right / (true + predicted)
        report: dict[str, Any] = {
            "images": len(self.true),
            "correct": len(hits),
            "accuracy": 100.0 * float(np.equal(self.true, self.predicted).mean()),
        }
        if len(self.classnames) > TOP:
            report[f"top_{TOP}"] = 100.0 * float(np.mean(self.among))
        report["macro_f1"] = 100.0 * float(f1[true > 0].mean())  # of the classes that occur
        report["per_class"] = [
            {
                "class": name, "images": int(n), "predicted": int(count), "precision": per_cent(p), "recall": per_cent(r),
                "f1": per_cent(f),
            }
            for name, count, p, r, f, n in zip(self.classnames, predicted, precision, recall, f1, true)
        ]  # fmt: skip
        return report

    def confusion(self) -> Any:
        """[C, C] counts, rows are true classes."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.true, self.predicted, labels=range(len(self.classnames)))


def as_lines(report: dict[str, Any]) -> list[str]:
    """A report as lines for a terminal: the whole, then a row for each class."""
    from tabulate import tabulate

    top = f", top-{TOP} {report[f'top_{TOP}']:.2f} %" if f"top_{TOP}" in report else ""
    lines = [
        f"Accuracy {report['accuracy']:.2f} %{top}, macro F1 {report['macro_f1']:.2f} % "
        f"({report['correct']:,} of {report['images']:,} images whose class is known are right)"
    ]
    cell = lambda value: "-" if value is None else f"{value:.1f}"  # noqa: E731
    rows = [
        [c["class"], c["images"], c["predicted"], *(cell(c[k]) for k in ("precision", "recall", "f1"))]
        for c in report["per_class"]
    ]
    headers = ["class", "images", "predicted", "precision %", "recall %", "F1 %"]
    align = ("left", *["right"] * 5)
    return [*lines, "", *tabulate(rows, headers, disable_numparse=True, colalign=align).splitlines()]


def calibration_note(results: dict[str, Any]) -> str:
    """What the run's own evaluation says of its probabilities, "" where it says nothing.

    results: results.json; its ``calibration`` has bins of confidence (``dassl.evaluation.calibration``).
    """
    try:
        bins, ece = results["calibration"], float(results["metrics"]["ece"])
        total = int(sum(b["images"] for b in bins))
        sure, right = (100.0 * float(sum(b["images"] * b[key] for b in bins)) / total for key in ("confidence", "accuracy"))
    except (TypeError, KeyError, ValueError, ArithmeticError):  # none there, or a record that someone has changed
        return ""
    said = (
        f"On its own {total:,} {results.get('split', 'test')} images this run was right in {right:.1f} %, and gave its first "
        f"class {sure:.1f} % on average"
    )
    if ece < FAR_OFF:
        return f"Probabilities: {said[0].lower()}{said[1:]}."
    direction = "too high" if sure > right else "too low"
    return f"Probabilities are {direction}: {said[0].lower()}{said[1:]}. Take them as an order of classes, not as how sure it is."
