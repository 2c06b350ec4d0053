"""How far a classifier's confidence is from its accuracy (Guo et al., On Calibration of Modern Neural Networks, ICML 2017)."""

import numpy as np

BINS = 15


class Calibration:
    """Confidence (the largest softmax probability) and correctness of the images seen so far."""

    def __init__(self):
        self._confidence, self._correct = [], []

    def add(self, logits, labels):
        """Add a batch: logits [B, C], labels [B]."""
        probability, predicted = logits.double().softmax(dim=1).max(dim=1)
        self._confidence += probability.tolist()
        self._correct += predicted.eq(labels).tolist()

    def bins(self):
        """Images by confidence, in BINS bins of equal width, lower ends excluded.

        Returns:
            [{"above", "to", "images", "confidence", "accuracy"}] of the bins that have images: limits and means, shares of 1.
        """
        confidence, correct = np.asarray(self._confidence), np.asarray(self._correct, dtype=float)
        place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        found = []
        for number in range(BINS):
            inside = place == number
            if inside.any():
                found.append({
                    "above": number / BINS, "to": (number + 1) / BINS, "images": int(inside.sum()),
                    "confidence": float(confidence[inside].mean()), "accuracy": float(correct[inside].mean()),
                })  # fmt: skip
        return found

    def error(self):
        """Expected calibration error in per cent: mean over images of their bin's |accuracy - confidence|."""
        bins = self.bins()
        total = sum(found["images"] for found in bins)
        return 100.0 * sum(found["images"] * abs(found["accuracy"] - found["confidence"]) for found in bins) / total
