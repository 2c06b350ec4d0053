"""Learning-rate schedules in closed form: the rate is a function of the number of steps taken, nothing else.

A scheduler's state is therefore plain numbers, and a resumed run goes on exactly where it was.
"""

import math

import torch
from torch.optim.lr_scheduler import LRScheduler

from ..utils import UserError, check_availability
from . import eager

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]
AVAI_WARMUPS = ["constant", "linear"]


class WarmupScheduler(LRScheduler):
    """``decay(n)`` times the base rate, n steps after the end of an optional warm-up.

    With a warm-up of W epochs, the rates of the first W epochs are ``warmup(e, base)``, e = 0 … W − 1; epoch W has the
    base rate. ``count_warmup``: the decay counts the warm-up's epochs as if it had run through them, and continues
    from the base rate there.
    """

    def __init__(self, optimizer, decay, warmup_epoch=0, warmup=None, count_warmup=False, last_epoch=-1):
        self._decay = decay
        self._warmup = warmup
        self._warmup_epoch = max(warmup_epoch, 0)
        self._offset = self._warmup_epoch if count_warmup else 0
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        """Return the rate of each parameter group at ``last_epoch``."""
        if self.last_epoch < self._warmup_epoch:
            return [self._warmup(self.last_epoch, base) for base in self.base_lrs]
        steps = self.last_epoch - self._warmup_epoch + self._offset
        factor = self._decay(steps) / self._decay(self._offset)
        return [base * factor for base in self.base_lrs]

    def state_dict(self):
        """Return the state as plain numbers."""
        return {
            "last_epoch": self.last_epoch,
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "last_lr": [float(lr) for lr in self.get_last_lr()],
        }

    def load_state_dict(self, state_dict):
        """Take over a state: this class' own, or a Dassl scheduler's as ``load_checkpoint`` reads it.

        Dassl pickles the schedule that follows its warm-up as an object, whose own count starts where the warm-up's
        stops: the steps taken are the sum of the two.
        """
        steps = int(state_dict["last_epoch"])
        successor = state_dict.get("successor")
        if successor is not None:
            steps += int(successor.state.get("last_epoch", 0)) - self._offset
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise UserError(
                f"the checkpoint's schedule has {len(state_dict['base_lrs'])} parameter groups, "
                f"this method's has {len(self.base_lrs)}"
            )
        # the rates are a function of the settings and the number of steps: nothing else is taken from the file
        self.last_epoch = steps
        self._step_count = steps + 1
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = lr


class _SuccessorScheduler(LRScheduler):
    """A warm-up of ``warmup_epoch`` steps, after which ``successor``, a scheduler of the same optimiser, takes over."""

    def __init__(self, optimizer, successor, warmup_epoch, last_epoch=-1):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        """Return the rate of each parameter group."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.warmup_lr(self.last_epoch, base) for base in self.base_lrs]

    def step(self, epoch=None):
        """Take a step."""
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self):
        """Return the state of both schedulers as plain data."""
        names = ("last_epoch", "base_lrs", "_last_lr", "_step_count")
        return {**{name: getattr(self, name) for name in names}, "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict):
        """Take over what ``state_dict`` returned."""
        self.successor.load_state_dict(state_dict["successor"])
        self.__dict__.update({name: value for name, value in state_dict.items() if name != "successor"})


class ConstantWarmupScheduler(_SuccessorScheduler):
    """``cons_lr`` for ``warmup_epoch`` epochs, then ``successor``: for code that builds its schedulers itself."""

    def __init__(self, optimizer, successor, warmup_epoch, cons_lr, last_epoch=-1):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def warmup_lr(self, epoch, base):
        """Return the rate in ``epoch``."""
        return self.cons_lr


class LinearWarmupScheduler(_SuccessorScheduler):
    """From ``min_lr`` evenly up to the base rate, then ``successor``: for code that builds its schedulers itself."""

    def __init__(self, optimizer, successor, warmup_epoch, min_lr, last_epoch=-1):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def warmup_lr(self, epoch, base):
        """Return the rate in ``epoch``."""
        return base * epoch / self.warmup_epoch if epoch else self.min_lr


def build_lr_scheduler(optimizer, optim_cfg, power=1):
    """Return the scheduler that ``optim_cfg`` describes; call ``step()`` once at the end of each epoch.

    ``power``: the decay is raised to it. 2 is what a second scheduler that steps the same optimiser amounts to.

    Epochs counted from 1, W = WARMUP_EPOCH, T = MAX_EPOCH, cosine: WARMUP_CONS_LR while e ≤ W (``constant``), then
    base · ½ (1 + cos(π (e − 1 − W) / T)).
    """
    check_availability(optim_cfg.LR_SCHEDULER, AVAI_SCHEDS)
    plain = _decay(optim_cfg)
    decay = plain if power == 1 else lambda n: plain(n) ** power
    warmup_epoch = optim_cfg.WARMUP_EPOCH
    if warmup_epoch <= 0:
        return WarmupScheduler(optimizer, decay)
    check_availability(optim_cfg.WARMUP_TYPE, AVAI_WARMUPS)
    if optim_cfg.WARMUP_TYPE == "constant":
        cons_lr = optim_cfg.WARMUP_CONS_LR

        def warmup(epoch, base):
            return cons_lr

    else:
        min_lr = optim_cfg.WARMUP_MIN_LR

        def warmup(epoch, base):
            return base * epoch / warmup_epoch if epoch else min_lr

    count_warmup = not optim_cfg.WARMUP_RECOUNT
    if count_warmup and decay(warmup_epoch) == 0:
        raise UserError("OPTIM.WARMUP_EPOCH must be less than OPTIM.MAX_EPOCH when OPTIM.WARMUP_RECOUNT is False")
    return WarmupScheduler(optimizer, decay, warmup_epoch, warmup, count_warmup)


def learning_rates(optim_cfg, epochs, max_epoch):
    """Return the rates of the first ``epochs`` epochs of a run of ``max_epoch``, for a parameter with the rate OPTIM.LR."""
    settings = optim_cfg.clone()
    settings.defrost()
    settings.MAX_EPOCH = max_epoch
    optimizer = eager.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.LR)
    schedule = build_lr_scheduler(optimizer, settings)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()  # or PyTorch warns
        schedule.step()
    return rates


def _decay(optim_cfg):
    """Return the factor on the base rate as a function of the number of steps."""
    name, stepsize, gamma, max_epoch = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE, optim_cfg.GAMMA, optim_cfg.MAX_EPOCH
    if name == "cosine":
        return lambda n: 0.5 * (1 + math.cos(math.pi * n / max_epoch))
    steps = list(stepsize) if isinstance(stepsize, (list, tuple)) else [stepsize]
    if not steps or not all(isinstance(s, int) for s in steps):
        raise UserError(f"OPTIM.STEPSIZE takes whole epochs, such as (30, 60), not {stepsize}")
    if name == "multi_step":
        return lambda n: gamma ** sum(step <= n for step in steps)
    every = steps[-1] if steps[-1] > 0 else max_epoch
    return lambda n: gamma ** (n // every)
