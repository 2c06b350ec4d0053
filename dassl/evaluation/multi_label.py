"""Evaluation where an image may have several labels: mean average precision, F1 at a threshold."""

from collections import OrderedDict

import numpy as np
import torch

from ..utils import UserError
from .build import EVALUATOR_REGISTRY
from .evaluator import EvaluatorBase, check_finite


@EVALUATOR_REGISTRY.register()
class MultiLabel(EvaluatorBase):
    """mAP is the mean over classes of the average precision (scikit-learn's, no interpolation) of a class's images.

    Classes without an evaluated image are left out. DATASET.MULTI_LABEL chooses this evaluator. Scores are logits: their sigmoid
    is a class's probability, and TEST.LABEL_THRESHOLD is where a label begins.
    """

    def __init__(self, cfg, lab2cname=None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.reset()

    def reset(self):
        """Forget the predictions."""
        self._scores, self._labels = [], []

    def process(self, mo, gt):
        """Add a batch: logits ``mo`` [B, C] and labels ``gt`` [B, C], 0 or 1."""
        check_finite(mo)
        self._scores.append(mo.detach().float().cpu())
        self._labels.append(gt.detach().cpu().to(torch.uint8))

    def scores(self):
        """Logits [N, C], float32 on the CPU, and labels [N, C], uint8, of the images seen."""
        return torch.cat(self._scores), torch.cat(self._labels)

    def per_class(self):
        """Average precision [C] in per cent; None for a class that no image has."""
        from sklearn.metrics import average_precision_score

        logits, labels = (part.numpy() for part in self.scores())
        pairs = zip(labels.T, logits.T.astype(np.float64), strict=True)
        return [100.0 * float(average_precision_score(true, found)) if true.any() else None for true, found in pairs]

    def evaluate(self):
        """Print the result and return mAP and macro_f1, in per cent, with the labels above the threshold."""
        from sklearn.metrics import f1_score

        if not self._scores:
            raise UserError("nothing to evaluate: the split has no images")
        logits, labels = self.scores()
        known = [ap for ap in self.per_class() if ap is not None]
        if not known:
            raise UserError("nothing to evaluate: no image of the split has a label")
        threshold = self.cfg.TEST.LABEL_THRESHOLD
        found, occurs = logits.double().sigmoid() >= threshold, labels.bool().any(dim=0).numpy()
        f1 = f1_score(labels.numpy()[:, occurs], found.numpy()[:, occurs], average="macro", zero_division=0)
        results = OrderedDict(mAP=sum(known) / len(known), macro_f1=100.0 * float(f1))
        print(
            "=> result\n"
            f"* total: {len(labels):,}\n"
            f"* labels: {int(labels.sum()):,} of {labels.shape[1]} classes\n"
            f"* mAP: {results['mAP']:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            print("=> per-class result")
            for label, ap in enumerate(self.per_class()):
                said = "-" if ap is None else f"{ap:.1f}%"
                print(f"* class: {label} ({self._lab2cname[label]})\ttotal: {int(labels[:, label].sum()):,}\tAP: {said}")
        self.last_results = results
        return results
