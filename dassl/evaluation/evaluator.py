"""Evaluation of a classifier: accuracy, error, macro F1, per-class accuracy, confusion matrix."""

import os.path as osp
from collections import OrderedDict

import numpy as np
import torch

from ..utils import UserError, parallel, torch_save
from .build import EVALUATOR_REGISTRY
from .calibration import Calibration


def check_finite(scores, what="the scores of the model"):
    """UserError unless all values of a tensor are finite: the highest of NaN is a class, too, and would be counted."""
    bad = ~torch.isfinite(scores)
    if bad.any():
        rows = int(bad.flatten(1).any(1).sum()) if scores.dim() > 1 else int(bad.any())
        raise UserError(
            f"{what} are not finite (infinite or NaN) for {rows} of {len(scores)} images: nothing can be said of the accuracy. "
            "Damaged weights or a damaged checkpoint are the likely cause, or fp16 where the numbers need fp32"
        )


class EvaluatorBase:
    """What an evaluator offers. Its results are also kept in ``last_results`` (None before an evaluation)."""

    def __init__(self, cfg):
        self.cfg = cfg
        self.last_results = None

    def reset(self):
        """Forget the predictions."""
        raise NotImplementedError

    def process(self, mo, gt):
        """Add a batch: model output and ground truth."""
        raise NotImplementedError

    def evaluate(self):
        """Print the result and return it as an OrderedDict whose first value is the main one."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Evaluator for single-label classification; ``y_true`` and ``y_pred`` are the labels seen so far.

    gives_logits: the softmax of the scores is the classifier's probabilities, so that their calibration can be told.
    temperature: what the scores are divided by before that softmax (TEST.CALIBRATE).
    """

    gives_logits = False
    temperature = 1.0

    def __init__(self, cfg, lab2cname=None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        for k in cfg.TEST.TOP_K:
            if lab2cname and k > len(lab2cname):
                raise UserError(f"TEST.TOP_K {k}: there are {len(lab2cname)} classes; choose smaller numbers")
        self.reset()

    @property
    def y_true(self):
        return self._y_true

    @property
    def y_pred(self):
        return self._y_pred

    def reset(self):
        """Forget the predictions."""
        self._y_true, self._y_pred, self._scores = [], [], []
        self._among = dict.fromkeys(self.cfg.TEST.TOP_K, 0)
        self.calibration = Calibration()
        self._correct = self._total = 0

    def process(self, mo, gt):
        """Add a batch: scores ``mo`` [B, C] and labels ``gt`` [B]."""
        check_finite(mo)
        pred = mo.max(1)[1]
        self._correct += int(pred.eq(gt).sum().item())
        self._total += gt.shape[0]
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(pred.tolist())
        for k in self._among:
            self._among[k] += int(mo.topk(k, dim=1)[1].eq(gt[:, None]).any(1).sum())
        if self.cfg.TEST.SAVE_PREDICTIONS:
            self._scores.append(mo.detach().float().cpu())
        if self.gives_logits:
            self.calibration.add(mo if self.temperature == 1 else mo.double() / self.temperature, gt)

    def scores(self):
        """Scores [N, C], float32 on the CPU, and labels [N] of the images seen, where TEST.SAVE_PREDICTIONS asks for them."""
        return torch.cat(self._scores), torch.tensor(self._y_true)

    def evaluate(self):
        """Print the result and return accuracy, error_rate, macro_f1 (and top_k, ece, perclass_accuracy), all in per cent."""
        if not self._total:
            raise UserError("nothing to evaluate: the split has no images")
        acc = 100.0 * self._correct / self._total
        macro_f1 = 100.0 * self._macro_f1()
        results = OrderedDict(accuracy=acc, error_rate=100.0 - acc, macro_f1=float(macro_f1))
        print(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {acc:.1f}%\n"
            f"* error: {100.0 - acc:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        for k, hits in self._among.items():
            results[f"top_{k}"] = 100.0 * hits / self._total
            print(f"* top-{k}: {results[f'top_{k}']:.1f}%")
        if self.gives_logits:
            results["ece"] = self.calibration.error()
            print(f"* ece: {results['ece']:.1f}%")
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_per_class()
        if self.cfg.TEST.COMPUTE_CMAT and parallel.is_main():
            self._save_confusion_matrix()
        self.last_results = results
        return results

    def _macro_f1(self):
        """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur: scikit-learn's, which takes seconds to import."""
        true, pred = np.asarray(self._y_true), np.asarray(self._y_pred)
        scores = []
        for label in sorted(set(self._y_true)):  # np.unique imports masked arrays
            hits = np.sum((true == label) & (pred == label))
            scores.append(2 * hits / (np.sum(true == label) + np.sum(pred == label)))
        return np.mean(scores)

    def per_class(self):
        """Return {label: (correct, total)} for the labels that occur."""
        true, pred = np.asarray(self._y_true), np.asarray(self._y_pred)
        return {
            int(label): (int((pred[true == label] == label).sum()), int((true == label).sum()))
            for label in sorted(set(self._y_true))
        }

    def _print_per_class(self):
        print("=> per-class result")
        accs = []
        for label, (correct, total) in self.per_class().items():
            accs.append(100.0 * correct / total)
            print(f"* class: {label} ({self._lab2cname[label]})\ttotal: {total:,}\tcorrect: {correct:,}\tacc: {accs[-1]:.1f}%")
        mean = float(np.mean(accs))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self):
        """Write cmat.pt: float64 [C, C], row = true class, entries are shares of the row (0 for a class unseen)."""
        n = 1 + max(max(self._y_true), max(self._y_pred), *(self._lab2cname or [0]))
        counts = np.zeros((n, n))
        np.add.at(counts, (self._y_true, self._y_pred), 1)
        cmat = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        path = osp.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        torch_save(torch.from_numpy(cmat), path)
        print(f"Confusion matrix is saved to {path}")
