"""Image files of a command line: folders with all that is below them, and the class that an image's folder names."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from basics import UserError, nearest

from .predictor import check_paths

# What needs the datasets is imported inside functions: it takes half a second.

_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


@dataclass
class Gathered:
    """Images in the order of the words that named them.

    images: paths; within: the folder that was given and holds each, "" for a file that was named itself; left_out: {suffix
    or "no suffix": number of files in the folders that are no images}; twice: how many were named more than once.
    """

    images: list[str] = field(default_factory=list)
    within: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    twice: int = 0

    def remarks(self) -> list[str]:
        """Lines about what isn't classified."""
        lines = []
        if self.left_out:
            from datasets.listing import in_words

            lines.append(f"Not images, left out: {in_words(self.left_out)}")
        if self.twice:
            lines.append(f"{self.twice} image(s) were named more than once; each is classified once")
        return lines


def check_named(words: Iterable[str]) -> None:
    """UserError where something that was named is neither a file nor a folder."""
    check_paths([word for word in words if not os.path.isdir(word)])


def gather(words: Sequence[str]) -> Gathered:
    """The images that files and folders stand for; folders are walked to their ends, links to folders too.

    Raises:
        UserError: a path that isn't there, or nothing but folders without images.
    """
    from datasets.listing import IMAGE_SUFFIXES, in_words

    found, seen = Gathered(), set()

    def add(path, within):
        if os.path.normpath(path) in seen:
            found.twice += 1
            return
        seen.add(os.path.normpath(path))
        found.images.append(path)
        found.within.append(within)

    check_named(words)
    for word in words:
        if not os.path.isdir(word):
            add(word, "")
            continue
        for path in _files_below(word):
            suffix = os.path.splitext(path)[1].lower()
            if suffix in IMAGE_SUFFIXES:
                add(path, word)
            else:
                found.left_out[suffix or "no suffix"] += 1
    if not found.images:
        more = f"; they hold {in_words(found.left_out)}" if found.left_out else ""
        raise UserError(f"no images below {', '.join(words)}{more} (images are {', '.join(IMAGE_SUFFIXES)})")
    return found


def _files_below(top):
    """Paths of all files below a folder in sorted order, without hidden ones and those that systems and this project write."""
    from datasets.listing import NO_CLASSES

    visited = set()
    for where, folders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(where)
        if real in visited:  # links can lead in circles
            folders[:] = []
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NO_CLASSES)
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in _OF_SYSTEMS:
                yield os.path.join(where, name)


def plain_name(name: str) -> str:
    """A class or folder name as prompts and tokens see it: ``_`` is a blank, letter case and doubled blanks don't count."""
    return " ".join(name.replace("_", " ").split()).lower()


def folder_names(results: Mapping[str, Any], classes: Iterable[str], dataset: Any = None) -> dict[str, str]:
    """{plain name: class} of what folders of each class may be called: its own name, and that in the run's data set.

    Args:
        results: the run's results.json; its ``class_folders`` is {folder: class} where the two differ.
        classes: the names to choose among.
        dataset: the data set's class, whose ``new_names`` is the same for published sets.
    """
    classes = list(classes)
    count = Counter(map(plain_name, classes))
    names = {plain_name(name): name for name in classes if count[plain_name(name)] == 1}
    recorded = results.get("class_folders")
    for renamed in (getattr(dataset, "new_names", None), recorded):
        for folder, name in (renamed if isinstance(renamed, dict) else {}).items():
            if isinstance(name, str) and name in classes:
                names[plain_name(folder)] = name
    return names


def dataset_of(results: Mapping[str, Any]) -> Any:
    """The class of the run's data set; None where this project doesn't know it."""
    import datasets  # registers them
    from dassl.data.datasets import DATASET_REGISTRY

    assert datasets
    name = results.get("dataset")
    return DATASET_REGISTRY.get(name) if isinstance(name, str) and name in DATASET_REGISTRY else None


def truths(found: Gathered, names: Mapping[str, str]) -> list[str | None]:
    """The class of each image: that of the nearest folder above it, up to the given one, that has a class's name."""
    classes: dict[tuple[str, str], str | None] = {}
    labels = []
    for path, within in zip(found.images, found.within):
        place = (os.path.dirname(path), within)
        if place not in classes:
            classes[place] = _class_of(*place, names)
        labels.append(classes[place])
    return labels


def _class_of(folder, within, names):
    if not within:
        return None
    below = os.path.relpath(folder, within)
    parts = [os.path.basename(os.path.abspath(within)), *([] if below == os.curdir else below.split(os.sep))]
    return next((names[plain_name(part)] for part in reversed(parts) if plain_name(part) in names), None)


def unmatched(found: Gathered, labels: list[str | None], names: Mapping[str, str]) -> list[str]:
    """Lines about folders with images whose class isn't known though others' is: "kilm (12 images; did you mean kilim?)"."""
    folders = Counter(
        os.path.relpath(os.path.dirname(path), within) if within else "(named one by one)"
        for path, within, label in zip(found.images, found.within, labels)
        if label is None
    )
    return [
        f"{folder}: {count} image(s){'' if folder == os.curdir else nearest(plain_name(os.path.basename(folder)), names)}"
        for folder, count in sorted(folders.items())
    ]
