"""Where MoCoOp's template groups come from: a file, a random regrouping of it, or a checkpoint."""
import random

from dassl.utils import UserError
from prompting import TemplateGroup, group_file, read_groups


def groups_for(cfg):
    """Template groups of a training run: TRAINER.MOCOOP.TEMPLATES or the dataset's own file, regrouped where asked for."""
    o = cfg.TRAINER.MOCOOP
    path = o.TEMPLATES or group_file(cfg.DATASET.NAME)
    print(f"Reading template groups from {path}")
    groups = read_groups(path)
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
