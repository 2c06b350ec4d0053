"""Training that is counted in steps: so many for each shot, with a learning rate that falls from step to step."""

import math

from torch.optim.lr_scheduler import LambdaLR

LOWEST = 1e-6  # learning rate at the end of a cosine


class ByIterations:
    """Part of methods whose authors count steps (CLIP-LoRA, 2SFS, Tip-Adapter), before PromptTrainer among a class's bases.

    ``options.ITERS_PER_SHOT`` steps for each shot; 0, or no such key: OPTIM.MAX_EPOCH epochs, whose steps then make the
    schedule.
    """

    rate_changes_by_step = True
    lowest_rate = LOWEST

    def build_schedule(self):
        """Cosine over all steps, as torch's CosineAnnealingLR but in closed form; sets the number of epochs."""
        total, base, lowest = self.count_steps(), self.cfg.OPTIM.LR, self.lowest_rate
        self.total_steps = total
        return LambdaLR(self.optim, lambda step: cosine(base, min(step, total), total, lowest) / base)

    def count_steps(self):
        """Steps of the whole training; ``max_epoch`` becomes what they take."""
        batches = len(self.train_loader_x) if self.train_loader_x is not None else 1
        if not self.options.get("ITERS_PER_SHOT"):
            return self.cfg.OPTIM.MAX_EPOCH * batches
        shots = self.cfg.DATASET.NUM_SHOTS
        if shots < 1:
            shots = max(1, round(len(self.dm.dataset.train_x) / self.num_classes))
        steps = self.options.ITERS_PER_SHOT * shots
        self.max_epoch = math.ceil(steps / batches)
        print(
            f"{steps:,} steps, {self.options.ITERS_PER_SHOT} a shot: {self.max_epoch:,} epochs of {batches} batches "
            "(OPTIM.MAX_EPOCH isn't read)"
        )
        return steps

    def forward_backward(self, batch):
        if self.sched.last_epoch >= self.total_steps:  # the last epoch's batches beyond the last step
            return self._last_summary
        self._last_summary = super().forward_backward(batch)
        return self._last_summary

    _last_summary = {"loss": float("nan")}  # of a training that is resumed after its last step


def cosine(start, step, steps, lowest=LOWEST):
    """Learning rate of a step, counted from 0, on a cosine of ``steps`` steps from ``start`` down to ``lowest``."""
    return lowest + (start - lowest) * (1 + math.cos(math.pi * step / steps)) / 2
