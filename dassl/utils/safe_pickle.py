"""Reads pickles made by other programs without running code from them.

A pickle may name any importable function and have it called. The readers here look every name up in a list; a name
outside it is refused, or (for checkpoints, which carry scheduler objects that nobody needs) becomes an inert object.
"""

import codecs
import collections
import io
import pickle
import sys
import types
import warnings
import zipfile

import numpy as np
import torch

from basics import DamagedFileError, UserError

__all__ = ["safe_pickle_load", "safe_torch_load"]


class RefusedPickle(pickle.UnpicklingError):
    """The pickle names something that has no business in such a file."""


class InertObject:
    """Stands for an object of a class that is not loaded; keeps the object's state in ``state`` and does nothing."""

    def __init__(self, *args, **kwargs):
        self.state = {}

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        """Accept the items of a pickled mapping."""

    def append(self, value):
        """Accept the items of a pickled list."""

    def extend(self, values):
        """Accept the items of a pickled list."""


def _encode_latin1(text, encoding="latin1"):
    """How pickle protocol 2 writes bytes: as text, through ``_codecs.encode``."""
    if encoding != "latin1":
        raise RefusedPickle(f"_codecs.encode with {encoding}")
    return codecs.latin_1_encode(text)[0]


# Values, and what PyTorch itself writes into a checkpoint.
_CHECKPOINT_NAMES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _encode_latin1,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
}
for _module in ("builtins", "__builtin__"):
    for _type in (dict, list, tuple, set, frozenset, int, float, bool, str, bytes, complex, bytearray):
        _CHECKPOINT_NAMES[_module, _type.__name__] = _type
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    for _name in ("scalar", "_reconstruct"):
        _CHECKPOINT_NAMES[_module, _name] = getattr(np._core.multiarray, _name)


class _Unpickler(pickle._Unpickler):
    """Python's own implementation, without changes to classes and functions.

    The one in C keeps a table as long as the highest number that a PUT names, so that twelve bytes fill the memory.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def load_build(self):
        """Set attributes of an object, unless it is an allowed name itself."""
        if callable(self.stack[-2]):
            raise RefusedPickle(f"attributes of {getattr(self.stack[-2], '__qualname__', 'a function')}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


class _AllowListUnpickler(_Unpickler):
    """Knows the names in ``allow``, and refuses all others."""

    def __init__(self, file, allow, **kwargs):
        super().__init__(file, **kwargs)
        self._allow = allow

    def find_class(self, module, name):
        try:
            return self._allow[module, name]
        except KeyError:
            raise RefusedPickle(f"{module}.{name}") from None


class _CheckpointUnpickler(_Unpickler):
    """Knows PyTorch's tensors; other libraries' classes become inert; names of the standard library are refused."""

    def find_class(self, module, name):
        if (module, name) in _CHECKPOINT_NAMES:
            return _CHECKPOINT_NAMES[module, name]
        if module == "torch":
            value = getattr(torch, name, None)
            if isinstance(value, torch.dtype) or (name.endswith("Storage") and isinstance(value, type)):
                return value
        # Any standard module reaches os.system in a step or two; no checkpoint has a reason to name one.
        root = module.partition(".")[0]
        if root in sys.stdlib_module_names or root == "__builtin__" or module == "torch.storage":
            raise RefusedPickle(f"{module}.{name}")
        return type(name.rpartition(".")[2] or "Inert", (InertObject,), {"__module__": module})


def _load_restricted(file, **kwargs):
    return _CheckpointUnpickler(file, **kwargs).load()


# torch.load takes a module that offers these two names.
_restricted_pickle = types.SimpleNamespace(Unpickler=_CheckpointUnpickler, load=_load_restricted, __name__="restricted_pickle")


def safe_pickle_load(path, allow=None):
    """Read the pickle file ``path`` with an allow-list.

    ``allow`` maps (module, name) as written in the file to the class to use; containers, strings and numbers need no
    entry. Objects are made without calling ``__init__``; their attributes are set as pickled.
    Raises UserError that names the file when it is missing, truncated or names anything else.
    """
    data = _read(path)
    try:
        return _AllowListUnpickler(io.BytesIO(data), dict(allow or {})).load()
    except RefusedPickle as e:
        raise UserError(f"{path}: refused, because this pickle wants to use {e}; delete it unless you trust it") from e
    except Exception as e:  # damaged pickles raise whatever their bytes happen to say
        raise _damaged(path, "a pickle file", e) from e


def safe_torch_load(path):
    """Read a checkpoint written by ``torch.save`` onto the CPU, without running code from it.

    Plain tensors and numbers are read by PyTorch's own ``weights_only`` reader. When a file holds more (a published
    checkpoint pickles its scheduler), unknown classes become ``InertObject``s.
    Raises UserError when the file is missing or names code to be run, DamagedFileError when it is truncated or its
    checksums are wrong.
    """
    data = _read(path)
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                    raise ValueError("compressed, as PyTorch never writes it")  # a few MB may stand for a full memory
                if (member := archive.testzip()) is not None:  # PyTorch doesn't look at the checksums
                    raise ValueError(f"wrong checksum of {member}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats; they are the reason for this function
            try:
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:  # more than tensors and numbers
                source = io.BytesIO(data)
                return torch.load(source, map_location="cpu", weights_only=False, pickle_module=_restricted_pickle)
    except RefusedPickle as e:
        raise UserError(f"{path}: refused, because this checkpoint wants to run {e}") from e
    except Exception as e:  # damaged files raise whatever their bytes happen to say
        raise _damaged(path, "a checkpoint", e) from e


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from e


def _damaged(path, kind, error):
    reason = str(error).partition("\n")[0][:200] or type(error).__name__
    return DamagedFileError(f"{path}: truncated or damaged, or not {kind} ({reason})")
