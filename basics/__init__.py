"""The ground floor: errors for users, readable text, names, files, and how a program ends. Needs no torch; all may use it."""

from . import home
from .errors import DamagedFileError, UserError, printable
from .files import atomic_path, atomic_write, listdir_nohidden, mkdir_if_missing, read_json, write_json, write_text
from .names import closest, nearest, nearest_file

__all__ = [
    "DamagedFileError",
    "UserError",
    "atomic_path",
    "atomic_write",
    "closest",
    "listdir_nohidden",
    "mkdir_if_missing",
    "nearest",
    "nearest_file",
    "home",
    "printable",
    "read_json",
    "write_json",
    "write_text",
]
