"""Python files that a user adds: methods in ``trainers/``, data sets in ``datasets/``, settings of repositories in ``foreign/``.

In a checkout they lie beside ours and are modules like them. Where the project is installed they lie in those folders of the
current folder and become modules of the installed packages, ``./trainers/mine.py`` is ``mocoop.trainers.mine``; what they import
as ``dassl``, ``datasets``, ``learning`` … is then this project's, as it is in a checkout. A file that can't be imported is left
out, and said; only what needs it fails.
"""

import builtins
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from . import home
from .errors import UserError, printable
from .job import is_first

FOLDERS = ("trainers", "datasets", "foreign")


def import_ours(module: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0) -> ModuleType:
    """``__import__`` for files written as in a checkout: the names of our packages mean ours, wherever they are."""
    top = module.partition(".")[0]
    if not home.INSTALLED or level or top not in home.PACKAGES:
        return builtins.__import__(module, globals, locals, fromlist, level)
    leaf = builtins.__import__(home.PREFIX + module, globals, locals, fromlist or ("__name__",), 0)
    return leaf if fromlist else sys.modules[home.PREFIX + top]


class Finder:
    """Finds modules of the installed packages that are the user's files."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = fullname.removeprefix(home.PREFIX).partition(".")
        if not fullname.startswith(home.PREFIX) or package not in FOLDERS or not rest:
            return None
        inside = Path(package, *rest.split("."))
        for file in (inside / "__init__.py", inside.with_name(inside.name + ".py")):
            if (home.PROJECT / file).is_file():
                return None
        for file in (inside / "__init__.py", inside.with_name(inside.name + ".py")):
            own = home.own_folder() / file
            if own.is_file():
                folder = [str(own.parent)] if own.name == "__init__.py" else None
                loader = Loader(fullname, str(own))
                return importlib.util.spec_from_file_location(fullname, own, loader=loader, submodule_search_locations=folder)
        return None


class Loader(SourceFileLoader):
    """Runs a user's file with ``import_ours`` for its imports."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_ours}
        super().exec_module(module)


def imported() -> list[tuple[str, str]]:
    """[(name, file)] of the user's modules that are imported, in the order of their names."""
    found = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if _is_in_a_folder(name)}
    return sorted((name, file) for name, file in found.items() if file and not Path(file).is_relative_to(home.PROJECT))


def _is_in_a_folder(name):
    return name.startswith(home.PREFIX) and name.removeprefix(home.PREFIX).partition(".")[0] in FOLDERS


def import_all(package: str, path: Sequence[str], registry: Any, word: str, leave: Sequence[str] = ()) -> None:
    """Import every module of a package, so that what it registers is there; of a user's files those that register something.

    Args:
        package, path: its ``__name__`` and ``__path__``.
        registry: what the modules register classes in. A module that can't be imported is left out of it, and noted in its
            ``left_out``, {file: why}.
        word: the registry's name in a file that registers something.
        leave: names of modules that are not imported.
    """
    names = [module.name for module in pkgutil.iter_modules(path) if module.name not in leave]
    files = {name: f"{package.removeprefix(home.PREFIX)}/{name}.py" for name in names}
    if home.INSTALLED:
        files.update(_of_the_user(package.removeprefix(home.PREFIX), set(names) | set(leave), registry, word))
    for name in sorted(files):
        before = registry.entries()
        try:
            importlib.import_module(f"{package}.{name}")
        except (Exception, SystemExit) as error:
            registry.restore(before)
            note(registry, files[name], why(error))


def _of_the_user(folder: str, taken: set[str], registry: Any, word: str) -> dict[str, str]:
    """{name: file} of the user's modules in a folder that have ``word`` in them."""
    found, hidden = {}, []
    for module in pkgutil.iter_modules([str(home.own_folder() / folder)]):
        place = home.own_folder() / folder / module.name
        file = place / "__init__.py" if module.ispkg else place.with_name(f"{module.name}.py")
        if not file.is_file() or word not in file.read_text(encoding="utf-8", errors="replace"):
            continue
        if module.name in taken:
            hidden.append(str(file))
        else:
            found[module.name] = str(file)
    if hidden:
        note(registry, ", ".join(hidden), "mocoop has a file of its own with that name; rename yours to have it imported")
    return found


def note(registry: Any, file: str, reason: str) -> None:
    """Say and remember that a file is left out."""
    registry.left_out[file] = reason
    if is_first():
        sys.stderr.write(f"Note: {printable(file)} is left out: {printable(reason)}\n")


def why(error: BaseException) -> str:
    """What went wrong in a file, in one line with the line's number."""
    if isinstance(error, UserError):
        return str(error)
    said = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames and not isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {said}{where}"


if home.INSTALLED:
    sys.meta_path.insert(0, Finder())
