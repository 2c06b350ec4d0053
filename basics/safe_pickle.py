"""Reads files made by other programs without running code from them: pickles, and what ``torch.save`` has written.

A pickle may name any importable function and have it called. The readers here look every name up in a list; a name
outside it is refused, or (for checkpoints, which carry scheduler objects that nobody needs) becomes an inert object.
An archive that would unpack to more than its own size is refused, too.
"""

import codecs
import collections
import contextlib
import functools
import io
import os
import pickle
import sys
import types
import warnings
import zipfile
from typing import Any, ClassVar

from .errors import DamagedFileError, UserError

_CODE_BYTES = 64 * 2**20  # what the source texts in an archive may unpack to; OpenAI's have less than 4 MiB


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


def inert_class(module, name):
    """A class of inert objects that is named as in the pickle."""
    return type(name.rpartition(".")[2] or "Inert", (InertObject,), {"__module__": module})


def _encode_latin1(text, encoding="latin1"):
    """How pickle protocol 2 writes bytes: as text, through ``_codecs.encode``."""
    if encoding != "latin1":
        raise RefusedPickle(f"_codecs.encode with {encoding}")
    return codecs.latin_1_encode(text)[0]


@functools.cache
def _checkpoint_names():
    """{(module, name): what it stands for} of values, and of what PyTorch itself writes into a checkpoint."""
    import numpy as np
    import torch

    multiarray = (getattr(np, "_core", None) or np.core).multiarray  # NumPy 2 calls it _core
    names = {
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
    for module in ("builtins", "__builtin__"):
        for kind in (dict, list, tuple, set, frozenset, int, float, bool, str, bytes, complex, bytearray):
            names[module, kind.__name__] = kind
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        for name in ("scalar", "_reconstruct"):
            names[module, name] = getattr(multiarray, name)
    return names


# Names of the standard library that training scripts write into checkpoints for their options; they become inert.
_OPTIONS = {("argparse", "Namespace"), ("types", "SimpleNamespace")} | {
    (module, name)
    for module in ("pathlib", "pathlib._local")
    for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
}


class Unpickler(pickle._Unpickler):
    """Python's own implementation, without changes to classes and functions.

    The one in C keeps a table as long as the highest number that a PUT names, so that twelve bytes fill the memory.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def load_build(self):
        """Set attributes of an object, unless it is an allowed name itself."""
        if callable(self.stack[-2]):
            raise RefusedPickle(f"attributes of {getattr(self.stack[-2], '__qualname__', 'a function')}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


class _AllowListUnpickler(Unpickler):
    """Knows the names in ``allow``, and refuses all others."""

    def __init__(self, file, allow, **kwargs):
        super().__init__(file, **kwargs)
        self._allow = allow

    def find_class(self, module, name):
        try:
            return self._allow[module, name]
        except KeyError:
            raise RefusedPickle(f"{module}.{name}") from None


class _CheckpointUnpickler(Unpickler):
    """Knows PyTorch's tensors; other libraries' classes become inert; names of the standard library are refused."""

    def find_class(self, module, name):
        import torch

        if (module, name) in _checkpoint_names():
            return _checkpoint_names()[module, name]
        if module == "torch":
            value = getattr(torch, name, None)
            if isinstance(value, torch.dtype) or (name.endswith("Storage") and isinstance(value, type)):
                return value
        # Any standard module reaches os.system in a step or two; no checkpoint has a reason to name one.
        root = module.partition(".")[0]
        standard = root in sys.stdlib_module_names or root == "__builtin__" or module == "torch.storage"
        if standard and (module, name) not in _OPTIONS:
            raise RefusedPickle(f"{module}.{name}")
        return inert_class(module, name)


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
    with reading(path, "a pickle file", "this pickle wants to use {}; delete it unless you trust it") as file:
        return _AllowListUnpickler(io.BytesIO(file.read()), dict(allow or {})).load()


def safe_torch_load(path):
    """Read a checkpoint written by ``torch.save`` onto the CPU, without running code from it.

    Plain tensors and numbers are read by PyTorch's own ``weights_only`` reader. When a file holds more (a published
    checkpoint pickles its scheduler), unknown classes become ``InertObject``s.
    Raises UserError when the file is missing or names code to be run, DamagedFileError when it is truncated, its
    checksums are wrong, or it stands for more memory than it has bytes.
    """
    with reading(path, "a checkpoint", "this checkpoint wants to run {}") as file:
        import torch

        if file.read(2) == b"PK":
            archive = check_archive(file)
            if holds_torchscript(archive):  # PyTorch would run it
                raise ValueError("it is a TorchScript program")
            source = file
        else:  # PyTorch may take a file that isn't a zip for a tar, and unpack that: not one without a place on disk
            file.seek(0)
            source = io.BytesIO(file.read())
        source.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats; they are the reason for this function
            try:
                content = torch.load(source, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:  # more than tensors and numbers
                source.seek(0)
                content = torch.load(source, map_location="cpu", weights_only=False, pickle_module=_restricted_pickle)
        _check_sizes(content, os.fstat(file.fileno()).st_size)
        return content


@contextlib.contextmanager
def reading(path, kind, refusal):
    """The open file ``path``, for a reader of pickles.

    Args:
        kind: what the file should be, for messages.
        refusal: what the file wants, with {} for the name that ``RefusedPickle`` says.

    Raises:
        UserError: it can't be opened, or the reader has refused it; DamagedFileError: anything else that the reader raises.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below)
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}") from e
    with file:
        try:
            yield file
        except RefusedPickle as e:
            raise UserError(f"{path}: refused, because {refusal.format(e)}") from e
        except Exception as e:  # damaged files raise whatever their bytes happen to say
            text = str(e).strip().partition("\n")[0][:200]
            reason = text if text and not isinstance(e, LookupError) else f"{type(e).__name__} while reading it"
            raise DamagedFileError(f"{path}: truncated or damaged, or not {kind} ({reason})") from e


def check_archive(file):
    """The zip archive in an open file, when it is as PyTorch writes one; ValueError or zipfile's errors otherwise.

    Every checksum is compared, which PyTorch doesn't do, and nothing unpacks to more memory than the file has bytes:
    values are never compressed (source texts of TorchScript programs are), and no bytes belong to two members.
    """
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    sizes = {True: 0, False: 0}  # of what is compressed, and of the rest
    for info in members:
        packed = info.compress_type != zipfile.ZIP_STORED
        if packed and info.filename.split("/")[1:2] != ["code"]:
            raise ValueError("compressed, as PyTorch never writes it")  # a few MB may stand for a full memory
        sizes[packed] += info.file_size
    if sizes[True] > _CODE_BYTES:
        raise ValueError("its source texts unpack to more than any program has")
    if sizes[False] > file.seek(0, os.SEEK_END):
        raise ValueError("its members overlap")
    if len(set(archive.namelist())) != len(members):
        raise ValueError("two members have the same name")
    if (member := archive.testzip()) is not None:
        raise ValueError(f"wrong checksum of {member}")
    return archive


def holds_torchscript(archive):
    """Whether PyTorch takes a zip archive for a TorchScript program."""
    return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())


def _check_sizes(content, most):
    """ValueError for tensors among (nested) ``content`` that stand for more memory than the file has: ``most`` bytes."""
    import torch

    waiting, seen, storages = [content], set(), {}
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            if value.numel() * value.element_size() > storage.nbytes():
                raise ValueError(f"a tensor of shape {list(value.shape)} is larger than its values")
    if sum(storages.values()) > most:
        raise ValueError("its tensors are larger than the file")
