"""What is needed of a residual block of CLIP's transformers: the one place that knows how open_clip builds it.

A block computes y = x + ls_1(o(attention(q, k, v of ln_1(x)))), then y + ls_2(down(act(up(ln_2(y))))). open_clip 3 has torch's
``MultiheadAttention`` in it, open_clip 4 a module of its own with the same parameters.
"""

import torch
import torch.nn.functional as F
from torch import nn

_OTHERWISE = ("ln_attn", "ln_q", "ln_k", "ln_inner", "logit_scale", "head_scale", "bias_k", "bias_v")  # CLIP's has none of these


class Block:
    """The parts of a block, which are the model's own modules and parameters.

    Attributes:
        ln_1, ln_2, ls_1, ls_2: norms and layer scales (identities where there are none).
        up, act, down: of the MLP.
        qkv_weight, qkv_bias: [3 D, D] and [3 D].
        o: the output projection, a linear layer.
        width, heads: D and H.
    """

    def __init__(self, block):
        attn, mlp = block.attn, block.mlp
        self.ln_1, self.ln_2, self.ls_1, self.ls_2 = block.ln_1, block.ln_2, block.ls_1, block.ls_2
        self.up, self.act, self.down = mlp.c_fc, mlp.gelu, mlp.c_proj
        self.qkv_weight, self.qkv_bias, self.o = attn.in_proj_weight, attn.in_proj_bias, attn.out_proj
        self.heads, self.width = attn.num_heads, attn.out_proj.in_features

    def project(self, names, h, branches):
        """Projections ``names`` (neighbours among "qkv") of h [..., D], side by side: [..., len(names) * D].

        Args:
            branches: {name: module} whose outputs are added.
        """
        D = self.width
        rows = slice("qkv".index(names[0]) * D, ("qkv".index(names[-1]) + 1) * D)
        out = F.linear(h, self.qkv_weight[rows], self.qkv_bias[rows])
        if not any(name in branches for name in names):
            return out
        parts = zip(names, out.split(D, dim=-1), strict=True)
        return torch.cat([part + branches[name](h) if name in branches else part for name, part in parts], dim=-1)

    def project_out(self, o, branches):
        """Output projection of the heads' results o [..., D]."""
        out = F.linear(o, self.o.weight, self.o.bias)
        return out + branches["o"](o) if "o" in branches else out

    def attention(self, h, branches, mask=None, queries=None):
        """Attention of h [N, L, D] to itself, with ``branches`` in its projections; ``mask``: additive, [L, L].

        ``queries``: the first so many rows alone attend to all, [N, queries, D].
        """
        heads = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # noqa: E731  [N, H, L, d]
        if queries is None:
            q, k, v = map(heads, self.project("qkv", h, branches).split(self.width, dim=-1))
        else:
            q = heads(self.project("q", h[:, :queries], branches))
            k, v = map(heads, self.project("kv", h, branches).split(self.width, dim=-1))
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
        return self.project_out(o.transpose(-3, -2).flatten(-2), branches)

    def mlp(self, x):
        return self.down(self.act(self.up(x)))


def is_clips(block):
    """Whether a block is one of CLIP's, so that ``Block`` says all of it (NormFormer's, for example, isn't)."""
    attn, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    return (
        all(isinstance(getattr(block, name, None), nn.Module) for name in ("ln_1", "ln_2", "ls_1", "ls_2"))
        and all(isinstance(getattr(attn, name, None), nn.Parameter) for name in ("in_proj_weight", "in_proj_bias"))
        and isinstance(getattr(attn, "out_proj", None), nn.Linear)
        and isinstance(mlp, nn.Sequential)
        and [name for name, part in mlp.named_children() if not isinstance(part, nn.Identity)] == ["c_fc", "gelu", "c_proj"]
        and not any(_is_there(getattr(owner, name, None)) for owner in (block, attn) for name in _OTHERWISE)
        and not hasattr(block, "ln_1_kv")
    )


def _is_there(part):
    return part is not None and not isinstance(part, nn.Identity)


def lower_precision(module, dtype):
    """Store the weights of a module's own matrix products in ``dtype``, if it is of the kinds that have any."""
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
        module.to(dtype)
    for name in ("in_proj_weight", "in_proj_bias"):
        if isinstance(parameter := getattr(module, name, None), nn.Parameter):
            parameter.data = parameter.data.to(dtype)
