"""Who may import whom, over the whole tree: read from the source, nothing is imported."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MAY_IMPORT = {  # package or top-level module: those of ours that it may import
    "basics": (),
    "dassl": ("basics",),
    "datasets": ("basics", "dassl"),
    "prompting": ("basics",),
    "learning": ("basics", "dassl", "prompting"),
    "trainers": ("basics", "dassl", "prompting", "learning"),
    "foreign": ("basics", "dassl"),
    "inference": ("basics", "dassl", "datasets", "trainers"),
    "reproduce": ("basics", "dassl", "datasets", "inference", "train"),
    "train": ("basics", "dassl", "datasets", "trainers", "foreign"),
    "predict": ("basics", "dassl", "inference"),
    "models": ("basics", "datasets"),
    "mocoop": ("basics", "dassl", "inference", "reproduce", "train"),
    "setup": ("basics",),
    "benchmarks": ("basics", "dassl", "datasets", "prompting", "learning", "trainers", "inference", "reproduce", "train"),
}
COMMANDS = {
    "datasets.check": ("prompting",),
    "reproduce.defaults": ("trainers",),
}  # programs inside a package: what they may import beside it
WITHOUT_TORCH = (
    "basics",
    "datasets",
    "foreign",
    "inference",
    "reproduce",
    "mocoop",
    "train",
    "predict",
)  # when they are imported
HEAVY = {"torch", "optuna", "torchvision", "open_clip", "ray", "matplotlib", "pandas", "scipy", "sklearn", "tensorboard"}
TYPE_CHECKING = "TYPE_CHECKING"


def modules():
    """{dotted name: path} of every module outside tests/."""
    found = {}
    for top in MAY_IMPORT:
        everything = "*.py" if top == "foreign" else "**/*.py"  # its folders are clones of others' repositories
        for file in [PROJECT / f"{top}.py"] if (PROJECT / f"{top}.py").is_file() else sorted((PROJECT / top).glob(everything)):
            parts = file.relative_to(PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imported(name, at_once=False):
    """Dotted names that a module imports. at_once: only those that it imports when it is imported itself."""
    file = MODULES[name]
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    names, waiting = [], list(ast.parse(file.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        elif at_once and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif at_once and isinstance(node, ast.If) and TYPE_CHECKING in ast.dump(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
    return names


def test_every_package_has_its_place():
    packages = {file.parent.name for file in PROJECT.glob("*/*.py") if "." not in (file.parent.name[0], file.name[0])}
    packages -= {"tests"}
    assert packages | {file.stem for file in PROJECT.glob("*.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_nobody_looks_upward(top):
    for name in MODULES:
        if name.split(".")[0] == top:
            allowed = {top, *MAY_IMPORT[top], *COMMANDS.get(name, ())}
            strange = {other for other in imported(name) if other.split(".")[0] in MAY_IMPORT.keys() | {"tests"}}
            strange = {other for other in strange if other.split(".")[0] not in allowed}
            assert not strange, f"{name} imports {', '.join(sorted(strange))}"


def test_no_circles():
    """Among modules, by what they import at once; that a package's modules import names of the package counts."""
    graph = {name: {other for other in imported(name, at_once=True) if other in MODULES} - {name} for name in MODULES}
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])


@pytest.mark.parametrize("top", WITHOUT_TORCH)
def test_what_starts_at_once_imports_nothing_heavy(top):
    for name in MODULES:
        if name.split(".")[0] == top:
            heavy = {other for other in imported(name, at_once=True) if other.split(".")[0] in HEAVY}
            assert not heavy, f"{name} imports {', '.join(sorted(heavy))}"
