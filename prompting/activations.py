"""QuickGELU, x * sigmoid(1.702 x), with one new tensor where the plain expression makes three; the same to the bit."""

import torch
from torch import nn


def quick_gelu(x):
    """x * sigmoid(1.702 x) of any tensor."""
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(1.702 * x)
    return _QuickGELU.apply(x) if x.requires_grad and torch.is_grad_enabled() else _in_one_tensor(x)


def _in_one_tensor(x):
    return (1.702 * x).sigmoid_().mul_(x)


class _QuickGELU(torch.autograd.Function):
    """Keeps only x for backward (the plain expression keeps three tensors of its size)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return _in_one_tensor(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted
            s = torch.sigmoid(1.702 * x)
            return (1 + 1.702 * x * (1 - s)) * s * grad
        s = (1.702 * x).sigmoid_()
        return (1 - s).mul_(x).mul_(1.702).add_(1).mul_(s).mul_(grad)


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP."""

    def forward(self, x):
        return quick_gelu(x)


def replace_quick_gelu(model):
    """Put ``QuickGELU`` in the place of open_clip's module of this name, wherever it is in ``model``, which is changed."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__ == "QuickGELU" and not isinstance(child, QuickGELU):
                setattr(module, name, QuickGELU())
