"""What a dataset's class says to methods, for a run's configuration: hand-written templates and template groups."""

from pathlib import Path
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from prompting import group_file, template_for


def dataset_class(cfg: Any) -> type:
    """The class that ``cfg.DATASET.NAME`` names; an empty one of that name where none is registered."""
    name = cfg.DATASET.NAME
    return DATASET_REGISTRY.get(name) if name in DATASET_REGISTRY else type(name, (), {})


def hand_template(cfg: Any, method: str = "") -> str:
    """The hand-written template of the run's dataset in a method's table (see ``prompting.template_for``)."""
    return template_for(dataset_class(cfg), method)


def own_group_file(cfg: Any) -> Path:
    """The template groups of the run's dataset (see ``prompting.group_file``)."""
    return group_file(dataset_class(cfg))
