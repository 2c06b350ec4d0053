"""Builds the wheel. In it everything lies below one name, ``mocoop``; in the checkout our packages lie at the top.

A wheel has ``datasets/`` as ``mocoop/datasets/``, ``train.py`` as ``mocoop/programs/train.py`` and the folders of files that the
code reads as ``mocoop/configs/`` …; absolute imports of our own packages are rewritten on the way. An editable installation
(``make venv``) shows the checkout as it is.
"""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
NAME, PROGRAMS = "mocoop", "mocoop.programs"
TOPS = ["basics", "benchmarks", "dassl", "datasets", "foreign", "inference", "learning", "prompting", "reproduce", "trainers"]
FILES = ["predict", "train"]  # modules that are single files in the checkout
DATA = ["configs", "models", "templates"]  # folders of files that the code reads
MEASURED = {"__init__", "inference_time", "measure", "text_tower"}  # of benchmarks: what `reproduce table6` starts
PACKAGES = find_packages(str(ROOT), exclude=["foreign.*"], include=[each for top in (*TOPS, NAME) for each in (top, f"{top}.*")])
INSTALLED = [package if package == NAME else f"{NAME}.{package}" for package in PACKAGES]


def placed(module):
    """The installed name of a module of ours, from its name in the checkout; "" for others'."""
    top = module.partition(".")[0]
    return f"{PROGRAMS}.{module}" if top in FILES else f"{NAME}.{module}" if top in TOPS else ""


def rewritten(source, file):
    """A module's source with the absolute imports of our packages under their installed names."""
    lines = source.splitlines(keepends=True)
    statements = [node for node in ast.walk(ast.parse(source, file)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in sorted(statements, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        text = _import(node) if isinstance(node, ast.Import) else _import_from(node, source)
        if text:
            first, last = lines[node.lineno - 1].encode(), lines[node.end_lineno - 1].encode()
            before, after = first[: node.col_offset].decode(), last[node.end_col_offset :].decode()
            lines[node.lineno - 1 : node.end_lineno] = [before + text + after]
    return "".join(lines)


def _import(node):
    """``import a.b`` binds ``a``, which is bound to ours; "" where nothing of ours is imported."""
    if not any(placed(alias.name) for alias in node.names):
        return ""
    parts = []
    for alias in node.names:
        name = placed(alias.name) or alias.name
        if alias.asname or name == alias.name:
            parts.append(f"import {name}" + (f" as {alias.asname}" if alias.asname else ""))
        else:
            top = alias.name.partition(".")[0]
            parts += [f"import {name}"] * ("." in alias.name) + [f"import {placed(top)} as {top}"]
    return "; ".join(parts)


def _import_from(node, source):
    if node.level or not placed(node.module):
        return ""
    text = ast.get_source_segment(source, node)
    start = text.index(node.module, len("from"))
    return text[:start] + placed(node.module) + text[start + len(node.module) :]


class BuildPy(build_py):
    """Copies modules to their installed places, with their imports rewritten."""

    def run(self):
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, NAME), ignore_errors=True)  # what an earlier build left
        super().run()
        if not self.editable_mode:
            record = Path(self.build_lib, NAME, "built_from.json")
            record.write_text(json.dumps(built_from(record.parent)) + "\n")

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        return [entry for entry in found if package != f"{NAME}.benchmarks" or entry[1] in MEASURED]

    def build_module(self, module, module_file, package):
        package = package if isinstance(package, str) else ".".join(package)
        outfile = self.get_module_outfile(self.build_lib, package.split("."), module)
        Path(outfile).parent.mkdir(parents=True, exist_ok=True)
        source = rewritten(Path(module_file).read_text(encoding="utf-8"), module_file)
        return outfile, Path(outfile).write_text(source, encoding="utf-8")


class Editable(editable_wheel):
    """Shows the checkout's own layout."""

    def finalize_options(self):
        self.distribution.packages, self.distribution.package_dir = PACKAGES, {}
        self.distribution.py_modules, self.distribution.package_data = FILES, {}
        super().finalize_options()


def built_from(package):
    """What git says of this checkout (nothing of an sdist), and the hashes of its source here and as it is installed."""
    sys.path.insert(0, str(ROOT))
    from basics.hashes import source_hash

    ours = Path(_git("rev-parse", "--show-toplevel") or "/").resolve() == ROOT
    return {
        "commit": _git("rev-parse", "HEAD") if ours else None,
        "modified": bool(ours and _git("status", "--porcelain", "--untracked-files=no")),
        "source_sha256": source_hash(ROOT, ROOT / "train.py"),
        "installed_sha256": source_hash(package, package / "programs" / "train.py"),
    }


def _git(*words):
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()
    except OSError:  # there is no git
        return ""


if __name__ == "__main__":
    folders = {installed: package.replace(".", "/") for installed, package in zip(INSTALLED, PACKAGES, strict=True)}
    setup(
        packages=[*INSTALLED, *(f"{NAME}.{folder}" for folder in DATA)],
        py_modules=[f"{PROGRAMS}.{file}" for file in FILES],
        package_dir={**folders, PROGRAMS: ".", **{f"{NAME}.{folder}": folder for folder in DATA}},
        package_data={
            NAME: ["py.typed"],
            f"{NAME}.datasets.builtin": ["*.json", "*.png"],
            f"{NAME}.reproduce": ["*.yaml", "*.json"],
            f"{NAME}.configs": ["**/*.yaml"],
            f"{NAME}.templates": ["**/*.txt", "**/*.json"],
            f"{NAME}.models": ["builtin*/*.json", "builtin*/*.safetensors", "builtin*/SHA256SUMS", "builtin/README.md"],
        },
        cmdclass={"build_py": BuildPy, "editable_wheel": Editable},
    )
