"""What is known of a dataset, asked of the class that its YAML file names; `dataset` is that file's stem."""

import functools
from collections.abc import Sequence
from pathlib import Path

from basics import UserError, home, nearest
from basics.settings import read_settings


def choices(name: str, names: Sequence[str]) -> str:
    """ " (did you mean X?); there are: A, B, ..." for an error message."""
    return f"{nearest(name, names)}; there are: {', '.join(names) or 'none'}"


def dataset_stems() -> list[str]:
    """Stems of all datasets' YAML files."""
    return [path.stem for path in home.listed("configs/datasets", "*.yaml")]


def dataset_file(dataset: str) -> Path:
    """Path of the dataset's YAML file; UserError naming the nearest one if there is none."""
    path = home.find(f"configs/datasets/{dataset}.yaml")
    if not path.is_file():
        raise UserError(f"unknown dataset {dataset!r}{choices(dataset, dataset_stems())}")
    return path


@functools.cache
def dataset_class(dataset: str) -> type:
    """The dataset's class; UserError if its YAML file is missing or names no class that is known."""
    file = str(dataset_file(dataset))
    name, _ = read_settings(file).get("DATASET.NAME", (None, ""))
    if not isinstance(name, str):
        raise UserError(f"{file}: DATASET.NAME is missing")
    import datasets  # registers them; here, because it takes a third of a second
    from dassl.data.datasets import DATASET_REGISTRY

    assert datasets
    return DATASET_REGISTRY.get(name)


def printed_name(dataset: str) -> str:
    """A dataset's name in the papers' tables, else its own."""
    return getattr(dataset_class(dataset), "printed_name", "") or dataset


def is_builtin(dataset: str) -> bool:
    """Whether the dataset is drawn by the project itself and goes with the built-in model."""
    return getattr(dataset_class(dataset), "builtin", False)


def family(dataset: str) -> str:
    """The dataset whose classes this one has: its own name, but for variants (letters_sketch, imagenet_a)."""
    return getattr(dataset_class(dataset), "variant_of", "") or dataset


def is_imagenet(dataset: str) -> bool:
    return family(dataset) == "imagenet"


def base_classes(dataset: str) -> int | None:
    """How many classes a base-to-new evaluation chooses among: the larger half; None where the number isn't known."""
    count = getattr(dataset_class(dataset), "counts", (0,))[0]
    return -(-count // 2) or None


def dataset_stem(name: str) -> str:
    """File stem for a dataset's name as the user writes it: stem or printed name, in any case."""
    if name not in dataset_stems():
        alike = [d for d in dataset_stems() if name.lower() in (d.lower(), printed_name(d).lower())]
        name = alike[0] if alike else name
    dataset_file(name)
    return name
