"""Mistyped keys, values and methods, told before PyTorch is imported: classes that import it declare the methods' keys.

``reproduce/defaults.json`` has those keys with their ranges, and the methods' names. What is said with its help is said only
while the declarations are those that the file was made from; where someone has changed a method, the run itself finds out.
"""

import ast
import functools
import hashlib
import json
import re

from basics import UserError, home, nearest

from .check import check_values
from .defaults import get_defaults
from .node import CfgNode
from .schema import Key, keys_of

FILE = "reproduce/defaults.json"
_FUNCTION = "extend_cfg"
_parsed = functools.cache(ast.parse)  # one file declares keys and is imported from by others
_KINDS = {kind.__name__: kind for kind in (int, float, str, bool)}
_PLAIN = ("meaning", "low", "high", "above", "below", "length")  # of a Key, beside what _as_data treats by itself


def _sources():
    """(path below its root, source) of the files that may declare keys or register methods."""
    for root in sorted({home.PROJECT, home.own_folder()}):
        for folder in ("learning", "trainers"):
            for file in sorted((root / folder).rglob("*.py")):
                yield file.relative_to(root).as_posix(), file.read_text(encoding="utf-8", errors="replace")


def declarations():
    """Hash of what declares the methods' keys: functions ``extend_cfg`` of trainers/ and learning/ with what they use of their
    own files and of those that these import from, all of learning/keys.py."""
    whole, sources = hashlib.sha256(), list(_sources())
    files = dict(sources)
    for path, source in sources:
        everything = path.endswith("/keys.py")
        if not everything and f"def {_FUNCTION}" not in source:
            continue
        functions = [n for n in ast.walk(_parsed(source)) if isinstance(n, ast.FunctionDef)]
        found = [(path, node) for node in functions if everything or node.name == _FUNCTION]
        own = {**files, path: source}  # two folders may have files of one name
        for place, node in [*found, *([] if everything else _used(own, found))]:
            text = "\n".join(own[place].split("\n")[node.lineno - 1 : node.end_lineno])
            whole.update(f"{place} {text}\n".encode())
    return whole.hexdigest()


def _used(files, found):
    """[(path, function or assignment at the top of a file)] that functions use, directly or by way of each other.

    Args:
        files: {path: source}.
        found: [(path, function)].
    """
    wanted, used = list(found), {}
    top = lambda path: _top(path, files[path]) if path in files else {}  # noqa: E731
    while wanted:
        path, node = wanted.pop()
        for name in {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}:
            place, there, passed = (path, name), top(path).get(name), set()
            while isinstance(there, tuple) and there not in passed:  # an imported name leads to the file that it comes from
                passed.add(there)
                place, there = there, top(there[0]).get(there[1])
            if isinstance(there, ast.AST) and place not in used:
                used[place] = there
                wanted.append((place[0], there))
    return [(path, used[path, name]) for path, name in sorted(used)]


@functools.cache
def _top(path, source):
    """{name at the top of a file: its function or assignment, or (path, name) where it is imported from}."""
    named = {}
    for node in _parsed(source).body:
        if isinstance(node, ast.ImportFrom):
            folder = path.split("/")[: -node.level] if node.level else []
            origin = "/".join([*folder, *(node.module or "").split(".")]) + ".py"
            named.update({alias.asname or alias.name: (origin, alias.name) for alias in node.names})
        targets = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "targets", [])
        named.update({getattr(target, "name", getattr(target, "id", "")): node for target in targets})
    return named


def check_at_once(merge):
    """Raise UserError for an unknown key, a value that isn't allowed, or an unknown method.

    Args:
        merge: function that merges files and words into a default configuration.

    Returns:
        That configuration; None where the run itself has to find out what is wrong with it.
    """
    try:
        content = json.loads((home.PROJECT / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    cfg = get_defaults()
    add_keys(cfg, content["keys"], content["ranges"])
    try:
        merge(cfg)
        check_values(cfg)
    except UserError:
        if content.get("declarations") == declarations():
            raise
        return None
    _check_method(cfg.TRAINER.NAME, content["methods"])
    return cfg


def _check_method(name, known):
    """UserError for a name that no method has, in the words of the registry.

    Not where a file of trainers/ has it in its text, or isn't Python: that is told when it is imported.
    """
    if name not in known and not any(_may_have(name, source) for _, source in _sources()):
        raise UserError(f'unknown trainer "{name}"{nearest(name, known)}; known: {", ".join(sorted(known))}')


def _may_have(name, source):
    try:
        compile(source, "trainers", "exec")
    except (SyntaxError, ValueError):
        return True
    return re.search(rf"\b{re.escape(name)}\b", source) is not None


def add_keys(node, keys, ranges=None, prefix=""):
    """Add nested {name: default} to a configuration, declared as ``ranges`` says (``ranges_of``); undeclared without it."""
    for name, value in keys.items():
        full = f"{prefix}{name}"
        if isinstance(value, dict):
            if name not in node:
                node[name] = CfgNode()
            add_keys(node[name], value, ranges, f"{full}.")
        elif ranges and full in ranges:
            setattr(node, name, _from_data(value, ranges[full]))
        else:
            node[name] = None if ranges is not None else value  # an undeclared key takes any value


def ranges_of(cfg, names):
    """{dotted key: what it may be, as plain data} of the declared keys among ``names``, without functions that check values."""
    return {name: _as_data(known) for name, known, _ in keys_of(cfg) if name in names}


def _as_data(known):
    data = {name: getattr(known, name) for name in _PLAIN if getattr(known, name) is not None}
    return {**data, "kind": known.entry_kind.__name__, "choices": list(known.choices), "also": list(known.also.items())}


def _from_data(default, data):
    plain = {name: data[name] for name in _PLAIN if name in data}
    also = {value: meaning for value, meaning in data["also"]}
    return Key(default, kind=_KINDS.get(data["kind"]), choices=tuple(data["choices"]), also=also, **plain)
