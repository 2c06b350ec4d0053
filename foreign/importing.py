"""Imports of repositories that were written to run from their own root folder.

A repository in a folder is the package ``foreign.<name>``. Inside it, ``from clip import clip`` or ``import trainers.coop`` mean
its own modules, as they did in its root folder, because every module of it has an ``__import__`` of its own; ``dassl`` and
``datasets`` are this project's, but for modules of ``datasets`` that this project doesn't have. ``open`` finds a relative path
in the repository where the working directory has none.
"""

import builtins
import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

from basics import home
from basics.own_files import import_ours

PACKAGE = __package__
_roots = {}  # name: folder


def add(name, folder):
    """From now on ``foreign.<name>`` is the repository in ``folder``, and its classes may take the place of ours of a name."""
    from dassl.utils import Registry

    _roots[name] = Path(folder)
    Registry.may_replace = f"{PACKAGE}."
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


class Finder:
    """Finds ``foreign.<name>.…`` below the repository's folder, with or without ``__init__.py``."""

    def find_spec(self, fullname, path=None, target=None):
        name, _, inside = fullname.removeprefix(f"{PACKAGE}.").partition(".")
        if not fullname.startswith(f"{PACKAGE}.") or name not in _roots:
            return None
        place = _roots[name].joinpath(*inside.split(".")) if inside else _roots[name]
        init, file = place / "__init__.py", place.with_name(place.name + ".py")
        if inside and init.is_file():
            return importlib.util.spec_from_file_location(
                fullname, init, loader=Loader(fullname, str(init), name), submodule_search_locations=[str(place)]
            )
        if inside and file.is_file():
            return importlib.util.spec_from_file_location(fullname, file, loader=Loader(fullname, str(file), name))
        if place.is_dir():
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        return None


class Loader(importlib.machinery.SourceFileLoader):
    """Runs a module of a repository with that repository's ``__import__`` and ``open``."""

    def __init__(self, fullname, path, name):
        super().__init__(fullname, path)
        self.repository = name

    def exec_module(self, module):
        own = {"__import__": _import_of(self.repository), "open": _open_of(self.repository)}
        module.__dict__["__builtins__"] = {**vars(builtins), **own}
        super().exec_module(module)


def _is_own(name, module):
    """Whether an absolute import of ``module`` inside a repository means one of its own files."""
    root = _roots[name]
    top, _, inside = module.partition(".")
    if top == "dassl" or not top:
        return False
    if top == "datasets":
        return bool(inside) and not _there(home.PROJECT, module) and _there(root, module)
    return _there(root, top)


def _there(root, module):
    place = root.joinpath(*module.split("."))
    return place.with_name(place.name + ".py").is_file() or (place.is_dir() and any(place.glob("*.py")))


def _import_of(name):
    def own_import(module, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and _is_own(name, module):
            full = f"{PACKAGE}.{name}.{module}"
            leaf = builtins.__import__(full, globals, locals, fromlist or ("__name__",), 0)
            return leaf if fromlist else sys.modules[f"{PACKAGE}.{name}.{module.partition('.')[0]}"]
        if level == 0 and module == "pkg_resources":
            return _pkg_resources()
        return import_ours(module, globals, locals, fromlist, level)

    return own_import


def _pkg_resources():
    """The module of setuptools with what CLIP's own code takes from it and newer ones don't have: comparing versions."""
    import packaging.version

    stand_in = ModuleType("pkg_resources")
    with contextlib.suppress(ModuleNotFoundError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setuptools' own, about the module's end
        stand_in.__dict__.update({k: v for k, v in vars(import_ours("pkg_resources")).items() if not k.startswith("__")})
    stand_in.packaging, stand_in.parse_version = packaging, packaging.version.parse
    return stand_in


def _open_of(name):
    def own_open(file, mode="r", *args, **kwargs):
        if isinstance(file, (str, os.PathLike)) and not os.path.isabs(file) and not os.path.exists(file):
            beside = _roots[name] / file
            if beside.exists():
                file = beside
        return open(file, mode, *args, **kwargs)

    return own_open
