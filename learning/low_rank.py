"""CLIP-LoRA's low-rank changes of the attention's projections: which layers have them, and how they are kept."""

import math

import torch
import torch.nn.functional as F
from torch import nn

POSITIONS = ("all", "bottom", "mid", "up", "half-up", "half-bottom", "top3")


def layers_at(position, count):
    """Numbers of the layers that a position names, of ``count``: thirds, halves, the last three or all."""
    third, half = count // 3, count // 2
    ranges = {"all": (0, count), "bottom": (0, third), "mid": (third, 2 * third), "up": (count - third, count),
              "half-up": (half, count), "half-bottom": (0, half), "top3": (max(0, count - 3), count)}  # fmt: skip
    return range(*ranges[position])


class LowRank(nn.Module):
    """scale · B A drop(x): w_lora_A [r, D] starts at random, w_lora_B [D, r] at zero."""

    def __init__(self, width, rank, scale, dropout):
        super().__init__()
        self.w_lora_A, self.w_lora_B = nn.Parameter(torch.empty(rank, width)), nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.w_lora_A, a=math.sqrt(5))
        self.scale, self.dropout = scale, nn.Dropout(dropout)

    def forward(self, x):
        return self.scale * F.linear(F.linear(self.dropout(x), self.w_lora_A), self.w_lora_B)


class LowRankLearner(nn.Module):
    """Changes of the encoders: {layer: {projection: LowRank}}, both as text."""

    def __init__(self, text, image):
        super().__init__()
        self.text, self.image = nn.ModuleDict(text), nn.ModuleDict(image)


def branches(modules):
    """A tower's changes {layer: {projection: LowRank}}, as ``Insertions.projections``, from a part of ``LowRankLearner``."""
    return {int(layer): dict(parts.items()) for layer, parts in modules.items()}
