"""Finds a dataset by what people call it: its registered name, its YAML file's stem, or its folder; in any case."""

from basics import UserError, nearest
from dassl.data.datasets import DATASET_REGISTRY


def find_dataset(name: str) -> type:
    """The dataset class that `name` means.

    Raises:
        UserError: there is none; names the nearest one.
    """
    known: dict[str, type] = {}
    for registered in DATASET_REGISTRY.registered_names():
        cls = DATASET_REGISTRY.get(registered)
        for other in (cls.__module__.rpartition(".")[2], getattr(cls, "dataset_dir", ""), getattr(cls, "printed_name", "")):
            known.setdefault(other.lower(), cls)
    known.update({registered.lower(): DATASET_REGISTRY.get(registered) for registered in DATASET_REGISTRY.registered_names()})
    known.pop("", None)
    if name.lower() not in known:
        raise UserError(
            f"unknown dataset {name}{nearest(name, known)}; known: {', '.join(sorted(DATASET_REGISTRY.registered_names()))}"
        )
    return known[name.lower()]
