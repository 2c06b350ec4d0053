"""A strict tree of settings: an unknown key or a value of a wrong type is an error that says what to write instead."""

from yacs.config import CfgNode as YacsNode

from basics import UserError, nearest
from basics.settings import literal, read_settings

from .schema import Key, declared, shown


class CfgNode(YacsNode):
    """yacs' CfgNode with declared keys and errors for users, and without its habit of executing ``.py`` files.

    ``node.NAME = key(…)`` declares a key and gives it its default; later values are plain.
    """

    def __setattr__(self, name, value):
        if isinstance(value, Key):
            self.__dict__.setdefault("__keys__", {})[name] = value
            value = value.default
        else:
            self._mark(name)
        super().__setattr__(name, value)

    def _mark(self, name):
        self.__dict__.setdefault("__given__", set()).add(name)

    def merge_from_file(self, cfg_filename):
        """Merge a YAML file and what it is based on (``read_settings``). UserError names the file, the line and the key."""
        for key, (value, place) in read_settings(cfg_filename).items():
            self._set(key, value, f"{place}: ")

    def merge_from_list(self, cfg_list):
        """Merge ``[KEY, VALUE, KEY, VALUE, …]`` as written on a command line."""
        if len(cfg_list) % 2:
            words = " ".join(map(str, cfg_list))
            raise UserError(f"settings come in pairs KEY VALUE, but {len(cfg_list)} words were given: {words}")
        for key, value in zip(cfg_list[::2], cfg_list[1::2]):
            self._set(key, value, "")

    def merge_from_other_cfg(self, cfg_other):
        """Merge another tree."""
        for key, value in _flatten(cfg_other):
            self._set(key, value, "")

    def _set(self, full_key, value, where):
        if self.is_frozen():
            raise AttributeError(f"the configuration is frozen: {full_key} cannot be set")
        node = self
        *parents, leaf = full_key.split(".")
        for depth, name in enumerate([*parents, leaf]):
            if name not in node:
                raise UserError(f"{where}unknown key {full_key}{_nearest_key(self, full_key)}")
            if depth < len(parents):
                node = node[name]
                if not isinstance(node, YacsNode):
                    raise UserError(f"{where}unknown key {full_key}: {'.'.join(parents)} is a value, not a section")
        if isinstance(node[leaf], YacsNode):
            if value is None or value == {}:
                return  # a section without entries
            raise UserError(f"{where}{full_key} is a section, not a value; its keys: {', '.join(node[leaf])}")
        node[leaf] = _coerce(value, node[leaf], declared(node, leaf), f"{where}{full_key}")
        if isinstance(node, CfgNode):
            node._mark(leaf)


def was_given(node, name):
    """Whether a file, an option, a pair or a program has set an entry of a section, be it to its default."""
    return name in node.__dict__.get("__given__", ())


def section(**keys):
    """A section of the configuration: ``section(N_CTX=key(16, "context vectors", low=1), INNER=section(…))``."""
    node = CfgNode()
    for name, value in keys.items():
        setattr(node, name, value)
    return node


def _nearest_key(root, full_key):
    keys = dict(_flatten(root))
    tails = {key for key in keys if key.rpartition(".")[2] == full_key.rpartition(".")[2]}
    return nearest(full_key, keys) or nearest(full_key, tails)


def _flatten(node, prefix=""):
    """Yield (dotted key, value) for every leaf."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _coerce(raw, old, known, key):
    """Return ``raw`` as a value of the type of ``known`` (the key's declaration) or, without one, of ``old``.

    Strings are read as Python literals, as yacs does.
    """
    value = literal(raw) if isinstance(raw, str) else raw
    if known is not None:
        old = known.default
        if any(type(value) is type(other) and value == other for other in known.also):
            return value
    if not isinstance(value, dict) and (old is None or type(value) is type(old)):
        return value
    if isinstance(old, str) and isinstance(raw, str):
        return raw  # a text that happens to look like a number
    if isinstance(old, bool) and isinstance(raw, str) and raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
        return type(old)(value)
    if isinstance(old, float) and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    raise UserError(f"{key} takes a value of type {type(old).__name__} (default {old!r}), not {shown(raw)}")
