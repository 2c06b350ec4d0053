"""A small module of CLIP's parts as TorchScript archives, written by the PyTorch that runs this: python make.py FOLDER.

The archives beside this file are from PyTorch 1.7.1, which wrote OpenAI's.
"""

import sys
from pathlib import Path

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 2)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width, bias=False), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        h = self.ln_1(x)
        return x + self.attn(h, h, h)[0] + self.mlp(x)


class Visual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 4, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.transformer = nn.Sequential(Block(8), Block(8))
        self.proj = nn.Parameter(torch.randn(8, 4))

    def forward(self, x):
        x = self.bn1(self.conv1(x)).flatten(2).permute(2, 0, 1)
        return self.transformer(x)[0] @ self.proj


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Visual()
        self.token_embedding = nn.Embedding(12, 8)
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.register_buffer("input_resolution", torch.tensor(8))
        self.register_buffer("tied", self.visual.proj.data.t()[1:])  # a view of another tensor's values
        self.register_buffer("none", None)
        self.plain = torch.ones(2)  # no part of the state dict

    def forward(self, x):
        return self.visual(x) * self.logit_scale.exp() + self.plain.sum()


def write(folder):
    """The paths of a traced archive in single precision and of a scripted one in half precision."""
    torch.manual_seed(0)
    model, paths = Tiny().eval(), [str(Path(folder, name)) for name in ("traced.pt", "scripted_half.pt")]
    torch.jit.trace(model, torch.randn(2, 3, 8, 8)).save(paths[0])
    torch.jit.script(model.half()).save(paths[1])
    return paths


if __name__ == "__main__":
    write(sys.argv[1])
