"""The published text computation, plainly: every prompt on its own, all 77 positions, the model's own layers.

Slow, and the measure of truth: tests compare the fast tower with it, and benchmarks time against it.
"""

import itertools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .insertions import NOTHING, run_block


def encode_reference(tower, plan, learned=None, insertions=NOTHING, length=None, checkpointing=False):
    """What ``tower(plan, learned, insertions=insertions)`` computes, by the published computation.

    Args:
        tower: TextTower.
        plan: Plan (only its programs are used).
        learned: [N, D] learned vectors, or None.
        insertions: Insertions; rows are placed prompt by prompt.
        length: positions of a prompt; None: all 77. Fewer are exact if they reach every end token.
        checkpointing: recompute each block in backward instead of keeping its activations.

    Returns:
        [G, C, E] text features, not normalised.
    """
    device = tower.positional_embedding.device
    programs = [program for group in plan.programs for program in group]
    L = length or tower.context_length
    token_ids = sorted({0} | {row for p in programs for row in p if row >= 0})
    row_of = {t: i for i, t in enumerate(token_ids)}
    table = tower.embed(torch.tensor(token_ids, device=device))
    if learned is not None:
        table = torch.cat([table, learned.to(table.dtype)])
    if insertions.embedding is not None:
        table = table + insertions.embedding(table)
    base = len(token_ids)
    rows = [[row_of[r] if r >= 0 else base - 1 - r for r in p] + [row_of[0]] * (L - len(p)) for p in programs]
    x = table[torch.tensor(rows, device=device)] + tower.positional_embedding[:L]  # [G * C, 77, D], padded with token 0
    for i, block in enumerate(tower.blocks):
        if i in insertions.rows:
            if i in plan.later:
                programs = [program for group in plan.later[i].programs for program in group]
                x = _rearranged(x, programs, insertions.rows[i].to(x.dtype))
            else:
                x = _replaced(x, programs, insertions.rows[i].to(x.dtype))
        mask = torch.full((x.shape[1],) * 2, float("-inf"), device=device, dtype=x.dtype).triu_(1)
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(run_block, block, i, x, insertions, mask, use_reentrant=False)
        else:
            x = run_block(block, i, x, insertions, mask)
    x = tower.ln_final(x)
    eot = torch.tensor([len(p) - 1 for p in programs], device=device)
    x = x[torch.arange(len(programs), device=device), eot]
    x = tower.text_projection(x) if isinstance(tower.text_projection, nn.Linear) else x @ tower.text_projection
    first = list(itertools.accumulate(map(len, plan.programs), initial=0))
    order = [[first[g] + min(c, len(group) - 1) for c in range(plan.num_classes)] for g, group in enumerate(plan.programs)]
    return x[torch.tensor(order, device=device)]  # as in the plan, groups of fewer prompts end with another one's feature


def _rearranged(x, programs, new):
    """Prompts [N, L, D] with the rows that later programs name: positions before, or rows of ``new`` [n, D]."""
    longest = max(map(len, programs))
    rows = [torch.stack([prompt[r] if r >= 0 else new[-1 - r] for r in p]) for prompt, p in zip(x, programs, strict=True)]
    return torch.stack([torch.cat([r, r[-1:].expand(longest - len(r), -1)]) for r in rows])


def _replaced(x, programs, new):
    """Prompts [N, L, D] in which rows of ``new`` [n, D] stand where the programs refer to learned rows."""
    rows = [torch.stack([new[-1 - r] if r < 0 else prompt[j] for j, r in enumerate(p)]) for prompt, p in zip(x, programs)]
    return torch.stack([torch.cat([r, prompt[len(r) :]]) for r, prompt in zip(rows, x, strict=True)])
