"""Mistyped keys and values, told before PyTorch is imported: classes that import it declare the methods' keys.

``reproduce/defaults.json`` names those keys. What is said with its help is said only while the declarations are those that the
file was made from; where someone has added a method or changed one, the run itself finds out.
"""

import ast
import hashlib
import json

from basics import UserError, home

from .check import check_values
from .defaults import get_defaults
from .node import CfgNode

FILE = "reproduce/defaults.json"
_FUNCTION = "extend_cfg"


def declarations():
    """Hash of what declares the methods' keys: functions ``extend_cfg`` of trainers/ and learning/, all of learning/keys.py."""
    whole = hashlib.sha256()
    for root in sorted({home.PROJECT, home.own_folder()}):
        for folder in ("learning", "trainers"):
            for file in sorted((root / folder).rglob("*.py")):
                source = file.read_text(encoding="utf-8")
                for node in ast.walk(ast.parse(source)):
                    if isinstance(node, ast.FunctionDef) and (node.name == _FUNCTION or file.name == "keys.py"):
                        text = ast.get_source_segment(source, node)
                        whole.update(f"{file.relative_to(root).as_posix()} {text}\n".encode())
    return whole.hexdigest()


def check_at_once(merge):
    """Raise UserError for an unknown key, or a value of the engine's own keys that isn't allowed.

    Args:
        merge: function that merges files and words into a default configuration.
    """
    try:
        content = json.loads((home.PROJECT / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    cfg = get_defaults()
    add_keys(cfg, content["keys"], values=False)  # types and ranges stand with the declarations
    try:
        merge(cfg)
        check_values(cfg)
    except UserError:
        if content.get("declarations") == declarations():
            raise


def add_keys(node, keys, values=True):
    """Add nested {name: default} to a configuration; without ``values`` each key takes any value."""
    for name, value in keys.items():
        if isinstance(value, dict):
            if name not in node:
                node[name] = CfgNode()
            add_keys(node[name], value, values)
        else:
            node[name] = value if values else None
