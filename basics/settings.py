"""Settings as people write them: YAML files, which may say what they are based on, and words of a command line."""

import os.path as osp
from ast import literal_eval
from typing import Any

import yaml

from . import home
from .errors import UserError

BASE = "_BASE_"  # the key that names the file, or the files, on which another one is based, relative to the latter's folder


def read_settings(path: str) -> dict[str, tuple[Any, str]]:
    """Settings of a YAML file and of those that it is based on; its own win, and those of a later base over an earlier one's.

    Returns:
        {dotted key: (value, "file, line N")}

    Raises:
        UserError: no such file, not YAML, a key given twice, a file based on itself; names file and line.
    """
    return _read(path, ())


def _read(path, above):
    values = _read_file(path)
    if BASE not in values:
        return values
    bases, place = values.pop(BASE)
    bases = bases if isinstance(bases, list) else [bases]
    above, found = (*above, osp.realpath(path)), {}
    for base in bases:
        if not isinstance(base, str) or not base:
            raise UserError(f"{place}: {BASE} takes the name of a YAML file or a list of names, not {base!r}")
        base = home.found(osp.normpath(osp.join(osp.dirname(path), osp.expanduser(base))))
        if osp.realpath(base) in above:
            raise UserError(f"{place}: {BASE} leads in a circle, back to {base}")
        if not osp.isfile(base):
            raise UserError(f"{place}: {BASE} names {base}, which doesn't exist")
        found.update(_read(base, above))
    return {**found, **values}


def literal(text: str) -> Any:
    """A word of a command line or file as a value: a Python literal if it is one, else the text itself."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


class _Loader(yaml.SafeLoader):
    """Builds plain values only: a tag that names a Python object is an error."""

    def compose_node(self, parent, index):
        """Refuse references: nested ones make a small file stand for an endless one."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="references (*) are not allowed", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)


def _read_file(path):
    """{dotted key: (value, "file, line N")} of one YAML file."""
    if osp.splitext(path)[1] not in ("", ".yaml", ".yml"):
        raise UserError(f"{path}: a configuration is a YAML file (.yaml)")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"cannot read the configuration file {path}: {e}") from e
    loader, values, lines = None, {}, {}
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _collect(loader, root, "", path, values, lines)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark else 1
        raise UserError(f"{path}, line {line}: not valid YAML ({e.problem or e.context})") from e
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as e:
        # beside its own errors, PyYAML lets through those of the conversion of a value: a 13th month, `!!int x`
        raise UserError(f"{path}: not valid YAML ({e})") from e
    finally:
        if loader is not None:
            loader.dispose()
    return {key: (value, f"{path}, line {lines[key]}") for key, value in values.items()}


def _collect(loader, node, prefix, path, values, lines):
    """Add the settings below a node to ``values``, and the lines of all keys, sections too, to ``lines``."""
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}, line {node.start_mark.line + 1}: expected KEY: VALUE lines")
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        key, line = f"{prefix}{key_node.value}", key_node.start_mark.line + 1
        if key in lines:
            raise UserError(f"{path}, line {line}: {key} is given twice (first on line {lines[key]})")
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            _collect(loader, value_node, f"{key}.", path, values, lines)
        else:
            values[key] = loader.construct_object(value_node, deep=True)
