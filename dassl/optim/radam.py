"""Adam with a rectified step (Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020); AdamW, warmed up.

Dassl's optimisers of these names, whose numbers differ from torch's: weight decay is subtracted from the weights, and before
the variance of the step is known (its length ρ below 5) a step without it is taken.
"""

import math

import torch
from torch.optim import Optimizer

from .eager import Eager

__all__ = ["AdamW", "PlainRAdam", "RAdam"]


class _Adam(Eager, Optimizer):
    """What both do: checks, moving averages in fp32, decay and step; a subclass says how long a step is."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, **own):
        if lr < 0:
            raise ValueError(f"learning rate {lr}: must not be negative")
        if eps < 0:
            raise ValueError(f"eps {eps}: must not be negative")
        for beta in betas:
            if not 0 <= beta < 1:
                raise ValueError(f"betas {betas}: from 0 to below 1")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **own})

    def lengths(self, group, step):
        """(learning rate of the decay, length of the step or None for no step, whether it is divided by the root)"""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step; returns the closure's loss, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p, group):
        if p.grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} takes no sparse gradients")
        grad, value, state = p.grad.float(), p.float(), self.state[p]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(value), exp_avg_sq=torch.zeros_like(value))
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        mean.mul_(beta1).add_(grad, alpha=1 - beta1)
        state["step"] += 1
        decay_lr, length, adaptive = self.lengths(group, state["step"])
        if length is None:
            return
        if group["weight_decay"] != 0:
            value.add_(value, alpha=-group["weight_decay"] * decay_lr)
        if adaptive:
            value.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-length)
        else:
            value.add_(mean, alpha=-length)
        p.copy_(value)


class RAdam(_Adam):
    """Rectified Adam. degenerated_to_sgd: while ρ < 5, take a step of plain momentum; otherwise none."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, degenerated_to_sgd=True):
        self.degenerated_to_sgd = degenerated_to_sgd
        super().__init__(params, lr, betas, eps, weight_decay)

    def lengths(self, group, step):
        beta1, beta2 = group["betas"]
        power = beta2**step
        longest = 2 / (1 - beta2) - 1
        rho = longest - 2 * step * power / (1 - power)
        if rho >= 5:
            ratio = (1 - power) * (rho - 4) / (longest - 4) * (rho - 2) / rho * longest / (longest - 2)
            return group["lr"], math.sqrt(ratio) / (1 - beta1**step) * group["lr"], True
        if self.degenerated_to_sgd:
            return group["lr"], 1.0 / (1 - beta1**step) * group["lr"], False
        return group["lr"], None, False


class PlainRAdam(RAdam):
    """The same numbers; Dassl has it without a buffer of step lengths, which isn't kept here anyway."""


class AdamW(_Adam):
    """Adam with weight decay beside the gradient. warmup: number of steps in which the learning rate rises linearly."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, warmup=0):
        super().__init__(params, lr, betas, eps, weight_decay, warmup=warmup)

    def lengths(self, group, step):
        beta1, beta2 = group["betas"]
        lr = 1e-8 + step * group["lr"] / group["warmup"] if group["warmup"] > step else group["lr"]
        return lr, lr * math.sqrt(1 - beta2**step) / (1 - beta1**step), True
