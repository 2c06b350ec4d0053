"""The published text computation, plainly: every prompt on its own, all 77 positions, the model's own layers.

Slow, and the measure of truth: tests compare the fast tower with it, and benchmarks time against it.
"""

import torch
from torch import nn


def encode_reference(tower, plan, learned=None):
    """What ``tower(plan, learned)`` computes, by the published computation.

    Args:
        tower: TextTower.
        plan: Plan (only its programs are used).
        learned: [N, D] learned vectors, or None.

    Returns:
        [G, C, E] text features, not normalised.
    """
    device = tower.positional_embedding.device
    programs = [program for group in plan.programs for program in group]
    L = tower.context_length
    token_ids = sorted({0} | {row for p in programs for row in p if row >= 0})
    row_of = {t: i for i, t in enumerate(token_ids)}
    table = tower.embed(torch.tensor(token_ids, device=device))
    if learned is not None:
        table = torch.cat([table, learned.to(table.dtype)])
    base = len(token_ids)
    rows = [[row_of[r] if r >= 0 else base - 1 - r for r in p] + [row_of[0]] * (L - len(p)) for p in programs]
    x = table[torch.tensor(rows, device=device)] + tower.positional_embedding  # [G * C, 77, D], padded with token 0
    mask = torch.full((L, L), float("-inf"), device=device, dtype=x.dtype).triu_(1)
    for block in tower.blocks:
        x = block(x, attn_mask=mask)
    x = tower.ln_final(x)
    eot = torch.tensor([len(p) - 1 for p in programs], device=device)
    x = x[torch.arange(len(programs), device=device), eot]
    x = tower.text_projection(x) if isinstance(tower.text_projection, nn.Linear) else x @ tower.text_projection
    return x.view(plan.num_groups, plan.num_classes, -1)
