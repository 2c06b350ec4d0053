"""What DePT learns beside a context: transforms of features, channel by channel, and a classifier on what they give."""

import torch
from torch import nn


class ChannelwiseTransform(nn.Module):
    """x -> scale · x + bias, channel by channel; the identity at the start."""

    def __init__(self, width):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.scale * x + self.bias


class DecoupledLearner(nn.Module):
    """``ctx`` of the prompts, transforms of both kinds of features, a classifier; names as in the repository DePT."""

    def __init__(self, ctx, width, num_classes, transforms, classifier):
        super().__init__()
        self.ctx = ctx
        self.film_lp_img, self.film_lp_text = (ChannelwiseTransform(width) if transforms else nn.Identity() for _ in range(2))
        self.linear_probe_proj = nn.Linear(width, num_classes) if classifier else nn.Identity()
