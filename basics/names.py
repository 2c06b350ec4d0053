"""The known name that a mistyped one was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def closest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.5) -> list[str]:
    """The up to ``most`` names of ``known`` that are most like ``name``, best first; letter case doesn't count.

    ``cutoff``: how alike, from 0 (anything) to 1 (the same).
    """
    by_lower = {str(candidate).lower(): candidate for candidate in known}
    return [by_lower[match] for match in get_close_matches(str(name).lower(), by_lower, n=most, cutoff=cutoff)]


def nearest(name: str, known: Iterable[str], most: int = 1) -> str:
    """``" (did you mean …?)"`` for an error message, or "" where no known name is close to ``name``."""
    found = closest(name, known, most)
    return f" (did you mean {' or '.join(map(str, found))}?)" if found else ""


def nearest_file(path: str | Path) -> Path | None:
    """The existing file most like ``path``, or None: in the same folder if that exists, else in the most alike sibling."""
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        alike = closest(folder.name, siblings, cutoff=0.4)
        if not alike:
            return None
        folder = folder.parent / alike[0]
    names = closest(path.name, sorted(p.name for p in folder.iterdir() if p.is_file()), cutoff=0.0)
    return folder / names[0] if names else None
