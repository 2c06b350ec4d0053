"""MoCoOp's parts: its configuration keys, what it learns, and where its template groups come from."""

import contextlib
import random
from dataclasses import dataclass

import torch
from torch import nn

from basics import UserError
from dassl.config import key, section
from learning.dataset import hand_template, own_group_file
from learning.keys import precision
from prompting import Plan, TemplateGroup, read_groups

from ..cocoop import build_meta_net
from ..vpt import random_rows
from .switches import deep_keys


def extend_cfg(cfg):
    """TRAINER.MOCOOP: the defaults are the paper's recipe."""
    weight = {"low": 0.0, "high": 1e6}
    cfg.TRAINER.MOCOOP = section(
        PREC=precision(),
        TEMPLATES=key("", "group file; .json: of descriptions", also={"": "templates/<dataset>.txt"}),
        GROUPING=key("semantic", "groups of the file, or of their sizes at random (Table 4)", choices=("semantic", "random")),
        GROUPING_SEED=key(0, "seed of the random grouping", low=0),
        CONTEXT_COUNT=key(
            "tokens", "learned vectors: one a token of the template, or a word", choices=("tokens", "words"), binds=True
        ),
        TOP_K=key(2, "experts mixed for an image", low=1),
        TAU=key(0.07, "temperature of L_cls and L_text; 0: CLIP's own for L_cls, none for L_text", low=0.0, high=1e6),
        RENORMALISE=key(True, "the mixed text feature has length 1: logits are true cosines"),
        LAMBDA_ROUTER=key(1.0, "λ1, weight of the router loss", **weight),
        LAMBDA_TEXT=key(5.0, "λ2, weight of the text loss", **weight),
        ROUTER_LOSS=key(
            "kl", "kl (Eq. 7), mse (Table 5), ce (target as soft label), none (Table 2)", choices=("kl", "mse", "ce", "none")
        ),
        ROUTER_TARGET=key(
            "group", "group (Eq. 4-6); true_class (+ 10 on the two best, not detached)", choices=("group", "true_class")
        ),
        ROUTER_TAU=key(
            1.0, "temperature of the router's target: cosines are divided by it (group alone; the paper has none)", above=0.0,
            high=1e6,
        ),
        ROUTER_CENTRE=key(
            False, "cosines of the router's target less each group's mean over the training images (group alone)", binds=True
        ),
        ROUTER_HIDDEN=key(0, "width of the router's hidden layer (ReLU); 0: the router is linear", low=0, high=65536, binds=True),
        BALANCE_LOSS=key(
            "none", "load balancing: switch (Switch Transformer, Eq. 4), importance (Shazeer et al. 2017, Eq. 6-7), none",
            choices=("none", "switch", "importance"),
        ),
        LAMBDA_BALANCE=key(0.01, "weight of the balancing loss", **weight),
        TEXT_LOSS=key(
            "templates", "templates (Eq. 8-9), prototype (one feature a group), none", choices=("templates", "prototype", "none")
        ),
        TEXT_EXPERTS=key(
            0, "approximation: experts that L_text takes in a step, in turn (the seed says the order); others are encoded where "
            "an image chose them; 0: all, every step", low=0,
        ),
        TEXT_CLASSES=key("all", "all: names of new classes, too (no images); seen: training classes", choices=("all", "seen")),
        TUNE_LAYERNORM=key(False, "learn ln_1, ln_2 of the image encoder at LAYERNORM_LR_MULT · LR"),
        LAYERNORM_LR_MULT=key(0.1, "factor on their learning rate", low=0.0, high=1000.0),
        CORRECTION=key(False, "learn one vector that is added to every text feature"),
        FULL_STOP=key(True, 'classification prompts end with the template\'s "."', binds=True),
        CHOSEN_BELOW=key(
            0,
            "training batches smaller than this encode only experts that an image chose; in L_text the others are zeros, and the "
            "optimiser leaves them alone (released: 4); 0: never",
            low=0,
        ),
        GRAD_CLIP=key(0.0, "largest gradient norm under fp16, amp and bf16; 0: no clipping", **weight),
        **deep_keys(),
    )  # fmt: skip


def build_router(embed_dim, num_experts, hidden):
    """Image features [B, E] -> expert scores [B, G]: one linear layer, or two with a ReLU between them."""
    if not hidden:
        return nn.Linear(embed_dim, num_experts)
    return nn.Sequential(nn.Linear(embed_dim, hidden), nn.ReLU(), nn.Linear(hidden, num_experts))


class MixtureLearner(nn.Module):
    """What MoCoOp learns.

    Attributes:
        ctx: [N, D] context vectors of all experts, one after the other.
        router: image feature [B, E] -> expert scores [B, G].
        router_centre: [G], each group's mean cosine over the training images (ROUTER_CENTRE), a buffer; or None.
        correction: [1, E], added to every text feature (released recipe), or None.
        norms: ln_1 and ln_2 of the image encoder's blocks (released recipe), shared with CLIP; or an empty list.
        text_prompts: rows [N, D] that replace ``ctx`` before the text tower's layers 1, 2, … (PROMPT_DEPTH_TEXT - 1 of them).
        image_prompts: ``ImagePrompts``' rows of the image encoder, shared by the experts.
        meta_net: image feature [B, E] -> shift of all context vectors [B, D] (META_NET), or None.
    """

    def __init__(self, ctx, num_experts, embed_dim, options, blocks, image_prompts=()):
        super().__init__()
        self.ctx = nn.Parameter(ctx.detach().float().clone())
        self.router = build_router(embed_dim, num_experts, options.ROUTER_HIDDEN)
        self.register_buffer("router_centre", torch.zeros(num_experts) if options.ROUTER_CENTRE else None)
        self.correction = nn.Parameter(torch.zeros(1, embed_dim)) if options.CORRECTION else None
        self.norms = nn.ModuleList(nn.ModuleDict({"ln_1": b.ln_1, "ln_2": b.ln_2}) for b in blocks)
        self.norms.requires_grad_(True)
        self.text_prompts = random_rows(options.PROMPT_DEPTH_TEXT - 1, *ctx.shape)
        self.image_prompts = nn.ParameterList(image_prompts)
        self.meta_net = build_meta_net(embed_dim, ctx.shape[1]) if options.META_NET else None


@contextlib.contextmanager
def idle_rows_kept(optimizer, parameter):
    """Rows of a parameter [N, D] without gradient come out of the optimiser's step inside as they went in, state and all.

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


@dataclass
class Targets:
    """What MoCoOp's losses compare with. C text classes, the training classes among them."""

    stacks: list  # ``losses.by_template_count`` of the groups' unit features
    hard: list  # G tensors [I, C, E], the same of each group's I templates
    prototypes: torch.Tensor  # [G, C, E] their means over templates, of length 1
    means: torch.Tensor  # [G, E] means over templates and training classes, of length 1
    seen: torch.Tensor  # [n] numbers of the training classes among the C
    plan: Plan  # of all prompts that a training step encodes, or this process' part of them
    class_rows: object  # which of the plan's classes classification takes
    text_rows: object  # which of them the text loss takes


def groups_for(cfg):
    """Template groups of a training run: TRAINER.MOCOOP.TEMPLATES or the dataset's own file, regrouped where asked for."""
    o = cfg.TRAINER.MOCOOP
    path = o.TEMPLATES or own_group_file(cfg)
    print(f"Reading template groups from {path}")
    groups = read_groups(path, doubled_blanks=o.CONTEXT_COUNT == "words")
    if o.GROUPING == "semantic":
        return groups
    if any(g.sentences for g in groups):
        raise UserError(f"TRAINER.MOCOOP.GROUPING random deals templates; {path} holds descriptions of classes")
    groups = shuffled(groups, o.GROUPING_SEED)
    print(f"Random grouping {o.GROUPING_SEED} (TRAINER.MOCOOP.GROUPING_SEED)")
    own = hand_template(cfg)
    holder = next((g for g in groups if own in g.templates[1:]), None)
    if holder:
        print(f'  no expert starts from the data set\'s own template "{own}": it is one of several in group "{holder.name}"')
    return groups


def shuffled(groups, seed):
    """The same templates in groups of the same sizes, dealt at random (the paper's Table 4); a function of the seed."""
    templates = [t for group in groups for t in group.templates]
    random.Random(seed).shuffle(templates)
    dealt = iter(templates)
    return [TemplateGroup(f"random {i + 1}", tuple(next(dealt) for _ in g.templates)) for i, g in enumerate(groups)]


def to_plain(groups):
    """Groups as plain data, for a checkpoint."""
    sentences = lambda g: {"sentences": {name: list(texts) for name, texts in g.sentences}} if g.sentences else {}  # noqa: E731
    return [{"name": g.name, "templates": list(g.templates), **sentences(g)} for g in groups]


def from_plain(data):
    """The groups that ``to_plain`` made; UserError when a checkpoint holds something else."""
    try:
        said = [tuple((str(name), tuple(map(str, texts))) for name, texts in g.get("sentences", {}).items()) for g in data]
        groups = [TemplateGroup(str(g["name"]), tuple(map(str, g["templates"])), s) for g, s in zip(data, said)]
    except (AttributeError, TypeError, KeyError):
        groups = []
    if not groups or any(t.count("{}") != 1 for g in groups for t in g.templates) or not all(g.templates for g in groups):
        raise UserError("the checkpoint carries no template groups: not a MoCoOp checkpoint of this project")
    return groups
