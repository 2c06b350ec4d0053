"""Running averages for the training log."""

from collections import defaultdict

import torch

__all__ = ["AverageMeter", "MetricMeter"]


class AverageMeter:
    """Last value (``val``), ``sum``, ``count`` and mean (``avg``) of a series of numbers."""

    def __init__(self, ema=False):
        """``ema``: let ``avg`` be an exponential moving average (0.9 old + 0.1 new) in place of the mean."""
        self.ema = ema
        self.reset()

    def reset(self):
        """Forget everything."""
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        """Add ``val`` (a number or a tensor of one element), counted ``n`` times."""
        if isinstance(val, torch.Tensor):
            val = val.item()
        first = self.count == 0
        self.val = val
        self.sum += val * n
        self.count += n
        if self.ema:
            self.avg = val if first else 0.9 * self.avg + 0.1 * val
        else:
            self.avg = self.sum / self.count


class MetricMeter:
    """A set of AverageMeters, one per name; ``str()`` gives ``loss 0.1234 (0.2345) acc …`` for the log."""

    def __init__(self, delimiter=" "):
        self.meters = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict):
        """Add one value per name. ``None`` adds nothing."""
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError("MetricMeter.update() takes a dictionary {name: value}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self):
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
