"""Where the project's files lie and how its commands are called: in a checkout, or installed as the package ``mocoop``.

In a checkout our packages are top-level ones (``dassl``, ``datasets`` …), and files that a user adds lie beside ours. Installed,
they are ``mocoop.dassl`` …, with ``configs/``, ``templates/`` and ``models/`` in the same package; a user's files lie in the
current folder, in folders of the same names. Of two files with one name the user's is meant.
"""

import importlib
import os
from pathlib import Path
from types import ModuleType

PREFIX = __name__.removesuffix("basics.home")  # of our packages' names: "", or "mocoop." where they are installed
INSTALLED = bool(PREFIX)
PROJECT = Path(__file__).absolute().parents[1]  # the checkout, or the installed package
PROGRAMS = "programs"  # the installed package's folder for what are single files in a checkout (train.py)
PACKAGES = ("basics", "benchmarks", "dassl", "datasets", "foreign", "inference", "learning", "mocoop", "models", "prompting",
            "reproduce", "trainers")  # fmt: skip
OWN = "the current folder" if INSTALLED else "the project"  # own_folder() in words
_CALLED = {  # command: how it is called in a checkout
    "train": "python train.py",
    "predict": "python predict.py",
    "reproduce": "python -m reproduce",
    "check": "python -m datasets.check",
    "download": "python -m datasets.download",
    "export": "python -m inference.export",
    "groups": "python -m prompting.group_templates",
    "distil": "python -m inference.distil",
    "hub": "python -m inference.hub",
}


def command(name: str) -> str:
    """How a command is called here, for messages and help: ``python train.py`` or ``mocoop train``."""
    return f"mocoop {name}" if INSTALLED else _CALLED[name]


def script(kind: str) -> str:
    """How a setting's run is called here: ``bash scripts/fewshot.sh`` or ``mocoop reproduce run fewshot``."""
    return f"mocoop reproduce run {kind}" if INSTALLED else f"bash scripts/{kind}.sh"


def file_of(program: str) -> Path:
    """Path of a program that is a single file in a checkout, such as train.py."""
    return PROJECT / (PROGRAMS if INSTALLED else "") / f"{program}.py"


def qualified(name: str) -> str:
    """The name under which a module of ours is imported here, from its name in a checkout."""
    moved = INSTALLED and "." not in name and file_of(name).is_file()
    return f"{PREFIX}{PROGRAMS}.{name}" if moved else PREFIX + name


def module(name: str) -> ModuleType:
    """A module of ours, from its name in a checkout."""
    return importlib.import_module(qualified(name))


def own_folder() -> Path:
    """The folder that a user's own files, ``data`` and ``output`` are in: the checkout, or the current folder."""
    return Path.cwd() if INSTALLED else PROJECT


def find(place: str | os.PathLike[str]) -> Path:
    """Path of a file or folder from its place in the project, such as "configs/datasets/eurosat.yaml".

    Returns:
        The user's where it exists, else that of ours, which need not exist.
    """
    own = own_folder() / place
    return own if os.path.exists(own) else PROJECT / place


def found(path: str | os.PathLike[str]) -> str:
    """A path as a user writes it where it leads somewhere, else that of ours in the same place of the project if it is there."""
    path = os.fspath(path)
    try:
        inside = "" if os.path.exists(path) else os.path.relpath(path)
    except ValueError:  # an empty path, or another drive's
        return path
    ours = os.path.join(PROJECT, inside)
    return ours if inside and not inside.startswith(os.pardir) and os.path.exists(ours) else path


def listed(folder: str, pattern: str) -> list[Path]:
    """Paths of the files in a folder of the project that fit a pattern, ours and the user's, sorted by name."""
    by_name = {path.name: path for root in (PROJECT, own_folder()) for path in (root / folder).glob(pattern)}
    return [by_name[name] for name in sorted(by_name)]
