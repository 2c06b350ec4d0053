"""What a dataset's class says to methods, for a run's configuration: hand-written templates and template groups."""

from pathlib import Path
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from prompting import check_line, group_file, read_groups, template_for


def dataset_class(cfg: Any) -> type:
    """The class that ``cfg.DATASET.NAME`` names; an empty one of that name where none is registered."""
    name = cfg.DATASET.NAME
    return DATASET_REGISTRY.get(name) if name in DATASET_REGISTRY else type(name, (), {})


def hand_template(cfg: Any, method: str = "") -> str:
    """The hand-written template of the run's dataset: DATASET.TEMPLATE, else the first one in the templates.txt of one's own
    folder, else that of a method's table (see ``prompting.template_for``)."""
    if cfg.DATASET.TEMPLATE:
        check_line(cfg.DATASET.TEMPLATE, "DATASET.TEMPLATE")
        return cfg.DATASET.TEMPLATE
    _, own = own_templates(cfg)
    return read_groups(own)[0].templates[0] if own else template_for(dataset_class(cfg), method)


def own_group_file(cfg: Any) -> Path:
    """The template groups of the run's dataset: the templates.txt of one's own folder, else those that are found by the name of
    the folder or of the dataset's class (see ``prompting.group_file``)."""
    name, own = own_templates(cfg)
    return Path(own) if own else group_file(dataset_class(cfg), name)


def own_templates(cfg: Any) -> tuple[str, str | None]:
    """(name of one's own folder of photos, its templates.txt or None); ("", None) of a dataset that has a class of its own."""
    find = getattr(dataset_class(cfg), "own_templates", None)
    return find(cfg) if find else ("", None)


def templates_identity(cfg: Any) -> dict[str, str]:
    """{"hand template": it} of one's own folder, where a file decides it; {} of other datasets, whose class says it."""
    return {"hand template": hand_template(cfg)} if own_templates(cfg)[0] else {}
