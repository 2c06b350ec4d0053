"""Mixing the samples of a batch: inputs and labels (mixup), statistics (MixStyle) or distributions (EFDMix) of features."""

import random
from contextlib import contextmanager

import torch
from torch import nn


def mixup(x1, x2, y1, y2, beta, preserve_order=False):
    """Mix two batches (Zhang et al., mixup, ICLR 2018).

    Args:
        x1, x2: [B, C, H, W]; y1, y2: [B, N] soft labels.
        beta: of the Beta distribution that each sample's share of ``x1`` is drawn from.
        preserve_order: the share is at least a half.

    Returns:
        mixed inputs and labels.
    """
    share = torch.distributions.Beta(beta, beta).sample([x1.shape[0], 1, 1, 1])
    if preserve_order:
        share = torch.max(share, 1 - share)
    share = share.to(x1.device)
    flat = share[:, :, 0, 0]
    return x1 * share + x2 * (1 - share), y1 * flat + y2 * (1 - flat)


class FeatureMixing(nn.Module):
    """What MixStyle and EFDMix share: when they act, partners and shares of the samples.

    Args:
        p: probability that a batch is mixed, in training.
        alpha: of the Beta distribution that the shares are drawn from.
        eps: added to variances.
        mix: partners: "random", or "crossdomain", from the other half of the batch.
    """

    def __init__(self, p=0.5, alpha=0.1, eps=1e-6, mix="random"):
        super().__init__()
        self.p, self.alpha, self.eps, self.mix = p, alpha, eps, mix
        self.beta = torch.distributions.Beta(alpha, alpha)
        self._activated = True

    def extra_repr(self):
        return f"p={self.p}, alpha={self.alpha}, eps={self.eps}, mix={self.mix}"

    def set_activation_status(self, status=True):
        self._activated = status

    def update_mix_method(self, mix="random"):
        self.mix = mix

    def partners(self, count):
        """[B] numbers of the samples that each one is mixed with."""
        if self.mix == "random":
            return torch.randperm(count)
        if self.mix == "crossdomain":
            last, first = torch.arange(count - 1, -1, -1).chunk(2)
            last = last[torch.randperm(len(last))]
            return torch.cat([last, first[torch.randperm(len(first))]])
        raise NotImplementedError(f'mix "{self.mix}": random or crossdomain')

    def forward(self, x):
        if not self.training or not self._activated or random.random() > self.p:
            return x
        share = self.beta.sample((len(x), 1, 1, 1)).to(x.device)
        return self.mixed(x, share, self.partners(len(x)))

    def mixed(self, x, share, partners):
        """x [B, C, H, W], share of its own [B, 1, 1, 1], partners [B] -> [B, C, H, W]."""
        raise NotImplementedError


class MixStyle(FeatureMixing):
    """Mix the mean and the standard deviation of each channel (Zhou et al., Domain Generalization with MixStyle, ICLR 2021)."""

    def mixed(self, x, share, partners):
        mean = x.mean(dim=[2, 3], keepdim=True).detach()
        deviation = (x.var(dim=[2, 3], keepdim=True) + self.eps).sqrt().detach()
        normal = (x - mean) / deviation
        new_mean = mean * share + mean[partners] * (1 - share)
        return normal * (deviation * share + deviation[partners] * (1 - share)) + new_mean


class EFDMix(FeatureMixing):
    """Mix the sorted values of each channel (Zhang et al., Exact Feature Distribution Matching, CVPR 2022)."""

    def mixed(self, x, share, partners):
        flat = x.flatten(2)  # [B, C, H * W]
        values, order = flat.sort()
        other = values[partners].gather(-1, order.argsort(-1))  # the partner's values in this sample's order
        return (flat + (other - flat.detach()) * (1 - share[..., 0])).view_as(x)


def _switches(kind):
    """The functions that Dassl has for each kind, for ``model.apply`` and as contexts."""

    def on_layers(action):
        return lambda m: action(m) if type(m) is kind else None

    activate = on_layers(lambda m: m.set_activation_status(True))
    deactivate = on_layers(lambda m: m.set_activation_status(False))
    at_random = on_layers(lambda m: m.update_mix_method("random"))
    crossdomain = on_layers(lambda m: m.update_mix_method("crossdomain"))

    @contextmanager
    def run_without(model):
        """Switch the layers of a model off, and on again at the end."""
        model.apply(deactivate)
        try:
            yield
        finally:
            model.apply(activate)

    @contextmanager
    def run_with(model, mix=None):
        """Switch the layers of a model on, with other partners where ``mix`` is given, and off at the end."""
        if mix is not None:
            model.apply(on_layers(lambda m: m.update_mix_method(mix)))
        model.apply(activate)
        try:
            yield
        finally:
            model.apply(deactivate)

    return activate, deactivate, at_random, crossdomain, run_with, run_without


(activate_mixstyle, deactivate_mixstyle, random_mixstyle, crossdomain_mixstyle, run_with_mixstyle,
 run_without_mixstyle) = _switches(MixStyle)  # fmt: skip
(activate_efdmix, deactivate_efdmix, random_efdmix, crossdomain_efdmix, run_with_efdmix,
 run_without_efdmix) = _switches(EFDMix)  # fmt: skip
