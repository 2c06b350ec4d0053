"""MoCoOp's parts: its configuration keys, what it learns, and where its template groups come from."""

import contextlib
import random

import torch
from torch import nn
from yacs.config import CfgNode as CN

from dassl.utils import UserError
from prompting import TemplateGroup, group_file, read_groups

CHOICES = {
    "ROUTER_LOSS": ("kl", "mse", "ce", "none"),
    "ROUTER_TARGET": ("group", "true_class"),
    "TEXT_LOSS": ("templates", "prototype", "none"),
    "TEXT_CLASSES": ("all", "seen"),
    "GROUPING": ("semantic", "random"),
    "CONTEXT_COUNT": ("tokens", "words"),
}


def extend_cfg(cfg):
    """TRAINER.MOCOOP: the defaults are the paper's recipe."""
    cfg.TRAINER.MOCOOP = CN()
    cfg.TRAINER.MOCOOP.PREC = "fp16"  # fp16, fp32, amp, bf16
    cfg.TRAINER.MOCOOP.TEMPLATES = ""  # group file; "" = templates/<dataset>.txt
    cfg.TRAINER.MOCOOP.GROUPING = "semantic"  # semantic = as in the file; random = same sizes, shuffled (Table 4)
    cfg.TRAINER.MOCOOP.GROUPING_SEED = 0  # of the random grouping
    cfg.TRAINER.MOCOOP.CONTEXT_COUNT = "tokens"  # learned vectors: one a token of the template, or one a word (released)
    cfg.TRAINER.MOCOOP.TOP_K = 2  # experts mixed for an image
    cfg.TRAINER.MOCOOP.TAU = 0.07  # temperature of L_cls and L_text; 0 = CLIP's own for L_cls, none for L_text
    cfg.TRAINER.MOCOOP.RENORMALISE = True  # the mixed text feature has length 1: logits are true cosines
    cfg.TRAINER.MOCOOP.LAMBDA_ROUTER = 1.0  # λ1
    cfg.TRAINER.MOCOOP.LAMBDA_TEXT = 5.0  # λ2
    cfg.TRAINER.MOCOOP.ROUTER_LOSS = "kl"  # kl (Eq. 7), mse (Table 5), ce (target as soft label), none (Table 2)
    cfg.TRAINER.MOCOOP.ROUTER_TARGET = "group"  # group (Eq. 4-6); true_class (+ 10 on the two best, not detached)
    cfg.TRAINER.MOCOOP.TEXT_LOSS = "templates"  # templates (Eq. 8-9), prototype (one mean feature a group), none
    cfg.TRAINER.MOCOOP.TEXT_CLASSES = "all"  # all = names of the new classes too (no images); seen = training classes
    cfg.TRAINER.MOCOOP.TUNE_LAYERNORM = False  # learn ln_1, ln_2 of the image encoder at LAYERNORM_LR_MULT · LR
    cfg.TRAINER.MOCOOP.LAYERNORM_LR_MULT = 0.1
    cfg.TRAINER.MOCOOP.CORRECTION = False  # learn one vector that is added to every text feature
    cfg.TRAINER.MOCOOP.FULL_STOP = True  # classification prompts end with the template's "."
    # training batches smaller than this encode only experts that an image chose; in L_text the others are zeros, and the
    # optimiser leaves them alone (released: 4); 0 = never
    cfg.TRAINER.MOCOOP.CHOSEN_BELOW = 0
    cfg.TRAINER.MOCOOP.GRAD_CLIP = 0.0  # largest gradient norm under fp16, amp and bf16; 0 = no clipping


def check_cfg(cfg):
    """UserError for a value that no recipe knows."""
    o = cfg.TRAINER.MOCOOP
    for key, allowed in CHOICES.items():
        if o[key] not in allowed:
            raise UserError(f'TRAINER.MOCOOP.{key} "{o[key]}": choose one of {", ".join(allowed)}')
    if o.TOP_K < 1:
        raise UserError(f"TRAINER.MOCOOP.TOP_K {o.TOP_K}: at least one expert must be chosen")
    if o.CHOSEN_BELOW < 0:
        raise UserError(f"TRAINER.MOCOOP.CHOSEN_BELOW {o.CHOSEN_BELOW}: a number of images, or 0 for never")
    if o.TAU < 0:
        raise UserError(f"TRAINER.MOCOOP.TAU {o.TAU}: a temperature is positive (0 = CLIP's own)")


class MixtureLearner(nn.Module):
    """What MoCoOp learns.

    Attributes:
        ctx: [N, D] context vectors of all experts, one after the other.
        router: linear, image feature [B, E] -> expert scores [B, G].
        correction: [1, E], added to every text feature (released recipe), or None.
        norms: ln_1 and ln_2 of the image encoder's blocks (released recipe), shared with CLIP; or an empty list.
    """

    def __init__(self, ctx, num_experts, embed_dim, correction, blocks):
        super().__init__()
        self.ctx = nn.Parameter(ctx.detach().float().clone())
        self.router = nn.Linear(embed_dim, num_experts)
        self.correction = nn.Parameter(torch.zeros(1, embed_dim)) if correction else None
        self.norms = nn.ModuleList(nn.ModuleDict({"ln_1": b.ln_1, "ln_2": b.ln_2}) for b in blocks)
        self.norms.requires_grad_(True)


@contextlib.contextmanager
def idle_rows_kept(optimizer, parameter):
    """Rows of a parameter without gradient come out of the optimiser's step inside as they went in, state and all.

    A row without gradient belongs to an expert that wasn't encoded. In the released code each expert is a parameter of its
    own, and optimisers skip parameters that have no gradient: no weight decay, no momentum.
    """
    idle = parameter.grad.detach().flatten(1).abs().sum(dim=1) == 0  # [N]
    kept = parameter.detach()[idle].clone()
    shaped = lambda: {k: v for k, v in optimizer.state[parameter].items() if getattr(v, "shape", None) == parameter.shape}  # noqa: E731
    state = {k: v[idle].clone() for k, v in shaped().items()}
    yield
    with torch.no_grad():
        parameter[idle] = kept
        for key, value in shaped().items():
            value[idle] = state.get(key, torch.zeros_like(kept))


def groups_for(cfg):
    """Template groups of a training run: TRAINER.MOCOOP.TEMPLATES or the dataset's own file, regrouped where asked for."""
    o = cfg.TRAINER.MOCOOP
    path = o.TEMPLATES or group_file(cfg.DATASET.NAME)
    print(f"Reading template groups from {path}")
    groups = read_groups(path, doubled_blanks=o.CONTEXT_COUNT == "words")
    return shuffled(groups, o.GROUPING_SEED) if o.GROUPING == "random" else groups


def shuffled(groups, seed):
    """The same templates in groups of the same sizes, dealt at random (the paper's Table 4); a function of the seed."""
    templates = [t for group in groups for t in group.templates]
    random.Random(seed).shuffle(templates)
    dealt = iter(templates)
    return [TemplateGroup(f"random {i + 1}", tuple(next(dealt) for _ in g.templates)) for i, g in enumerate(groups)]


def to_plain(groups):
    """Groups as plain data, for a checkpoint."""
    return [{"name": g.name, "templates": list(g.templates)} for g in groups]


def from_plain(data):
    """The groups that ``to_plain`` made; UserError when a checkpoint holds something else."""
    try:
        groups = [TemplateGroup(str(g["name"]), tuple(map(str, g["templates"]))) for g in data]
    except (TypeError, KeyError):
        groups = []
    if not groups or any(t.count("{}") != 1 for g in groups for t in g.templates) or not all(g.templates for g in groups):
        raise UserError("the checkpoint carries no template groups: not a MoCoOp checkpoint of this project")
    return groups
