"""CLIP's ResNets, rearranged to compute less: the same features but for last bits."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))  # a convolution and its batch norm; "0": downsample


def rearrange(visual, device):
    """Make a frozen ResNet of CLIP's compute less; returns text of what its last bits depend on, "" for another encoder.

    On every device attention pooling has one query, ``OneQueryPool``. On a CPU batch norms become part of the convolutions
    before them (in fp32 alone, where this rounds nothing that counts), and channels are last: a convolution needn't rearrange
    its input, and pooling reads neighbours. On a GPU nobody measured these two. ``visual``, in eval mode, is changed; the
    values of folded batch norms leave its ``state_dict``.
    """
    if type(getattr(visual, "attnpool", None)).__name__ != "AttentionPool2d":
        return ""
    visual.attnpool = OneQueryPool(visual.attnpool)
    done = ["one query"]
    if torch.device(device).type == "cpu":
        if visual.conv1.weight.dtype == torch.float32:
            _fold_batch_norms(visual)
            done.append("folded batch norms")
        visual.to(memory_format=torch.channels_last)
        done.append("channels last")
    return ", ".join(done)


def _fold_batch_norms(visual):
    for module in visual.modules():
        for first, second in _PAIRS:
            convolution, norm = getattr(module, first, None), getattr(module, second, None)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution.double(), norm.double()).float().requires_grad_(False))
                setattr(module, second, nn.Identity())


class OneQueryPool(nn.Module):
    """Attention pooling of CLIP's ResNets for the one query whose result is read: the mean of all positions.

    Keys and values aren't computed. With q the projected query, a score is q · (K x + b) = (Kᵀ q) · x + q · b, whose last part
    the softmax takes away; and Σ a (V x + b) = V Σ a x + b where the weights a sum to 1.

    Args:
        pool: open_clip's ``AttentionPool2d``; its parameters are shared and keep their names.
    """

    def __init__(self, pool):
        super().__init__()
        self.positional_embedding, self.num_heads = pool.positional_embedding, pool.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj

    def forward(self, x):
        """[B, D, h, w] of the last stage -> [B, E]."""
        x = x.flatten(2).transpose(1, 2)  # [B, N, D]
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        width, heads = x.shape[2], self.num_heads
        per_head = lambda weight: weight.view(heads, width // heads, width)  # noqa: E731
        query = self.q_proj(x[:, 0]).unflatten(1, (heads, -1)) * (width // heads) ** -0.5
        query = torch.einsum("bhe,hed->bhd", query, per_head(self.k_proj.weight))
        weights = (query @ x.transpose(1, 2)).softmax(dim=-1)  # [B, H, 1 + N]
        mixed = torch.einsum("bhd,hed->bhe", weights @ x, per_head(self.v_proj.weight))
        return self.c_proj(mixed.flatten(1) + self.v_proj.bias)
