"""Tensors of a TorchScript archive (how OpenAI has published CLIP), read as data: the program in it is never run.

The archive is a zip: ``data.pkl`` pickles the module's objects and their attributes, ``data/<key>`` has the values of each
storage, ``code/`` the source of the classes, in whose text stand the names of parameters and buffers
(github.com/pytorch/pytorch, torch/csrc/jit/docs/serialization.md).
"""

import io
import re

import torch

from basics.safe_pickle import (
    InertObject,
    RefusedPickle,
    Unpickler,
    check_archive,
    holds_torchscript,
    inert_class,
    reading,
)

_MOST_OBJECTS = 100_000  # modules and tensors that are looked at; OpenAI's largest model has some 2,000
_CLASS = re.compile(r"^class (\w+)\b", re.MULTILINE)
_NAMES = re.compile(r"^ +__(parameters|buffers)__ = \[(.*)\]$", re.MULTILINE)
_VALUE_TYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


def read_torchscript(path):
    """State dict of the module in a TorchScript archive, on the CPU, as ``torch.jit.load(path).state_dict()`` has it.

    Raises:
        UserError: the file can't be read, is damaged or no TorchScript archive, names code to be run from outside the
            archive, or has tensors that don't fit the values that are there.
    """
    with reading(path, "a TorchScript archive", "this archive wants to use {}") as file:
        archive = check_archive(file)
        if not holds_torchscript(archive):
            raise ValueError("it holds no constants.pkl")
        members = _Members(archive)
        module = _Objects(members).load()
        state, waiting, met = {}, [("", module)], 0
        while waiting:
            prefix, owner = waiting.pop()
            names = members.tensor_names(type(owner))
            for name, value in owner.state.items():
                met += 1
                if met > _MOST_OBJECTS:
                    raise ValueError(f"more than {_MOST_OBJECTS:,} attributes: its modules hold one another")
                if isinstance(value, InertObject) and _is_object(value):
                    waiting.append((f"{prefix}{name}.", value))
                elif name in names and value is not None:
                    if not isinstance(value, torch.Tensor):
                        raise ValueError(f"{prefix}{name} is no plain tensor")
                    state[prefix + name] = value
        return state


class _Members:
    """The parts of an archive that are read."""

    def __init__(self, archive):
        self.archive = archive
        self.root = archive.namelist()[0].partition("/")[0]
        self.known = set(archive.namelist())
        self.storages, self.sources = {}, {}
        if "byteorder" in self and self.read("byteorder").strip() != b"little":
            raise ValueError("its numbers are big-endian")

    def __contains__(self, name):
        return f"{self.root}/{name}" in self.known

    def read(self, name):
        if name not in self:
            raise ValueError(f"it has no {name}")
        return self.archive.read(f"{self.root}/{name}")

    def storage(self, description):
        """Values [n] of a storage, from what the pickle says of it."""
        kind, dtype, key, _, count = description  # where they were (a GPU) doesn't matter
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError("a storage that PyTorch doesn't write")
        if key not in self.storages:
            values = bytearray(self.read(f"data/{key}"))
            values = torch.frombuffer(values, dtype=torch.uint8) if values else torch.empty(0, dtype=torch.uint8)
            self.storages[key] = values
        size = dtype.itemsize * _whole(count)
        if size > len(self.storages[key]):
            raise ValueError(f"data/{key} has {len(self.storages[key])} bytes, but should have {size}")
        return self.storages[key][:size].view(dtype)

    def tensor_names(self, cls):
        """Names of the parameters and buffers of a module's class, as its source text lists them."""
        module, name = cls.__module__, cls.__name__
        if module not in self.sources:
            text = self.read(f"code/{module.replace('.', '/')}.py").decode()
            starts = [*_CLASS.finditer(text)]
            ends = [start.start() for start in starts[1:]] + [len(text)]
            self.sources[module] = {start[1]: text[start.end() : end] for start, end in zip(starts, ends, strict=True)}
        if name not in self.sources[module]:
            raise ValueError(f"code of {module}.{name} is missing")
        return {found for _, names in _NAMES.findall(self.sources[module][name]) for found in re.findall(r'"([^"]+)"', names)}


class _Objects(Unpickler):
    """Reads ``data.pkl``: numbers, texts, containers, tensors, and inert objects of the archive's classes."""

    def __init__(self, members):
        super().__init__(io.BytesIO(members.read("data.pkl")))
        self.members = members

    def load(self):
        """The module. ValueError: there is none."""
        module = super().load()
        if not isinstance(module, InertObject) or not _is_object(module):
            raise ValueError("data.pkl holds no module")
        return module

    def persistent_load(self, description):
        """A storage's values."""
        if not isinstance(description, tuple) or len(description) != 5:
            raise ValueError("a storage that PyTorch doesn't write")
        return self.members.storage(description)

    def find_class(self, module, name):
        """What stands for a name: a reader of tensors, a type of values, or an inert class."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _VALUE_TYPES:
            return _VALUE_TYPES[name]
        if module.partition(".")[0] == "__torch__" or module in ("torch", "torch.jit._pickle", "torch._utils"):
            return inert_class(module, name)
        raise RefusedPickle(f"{module}.{name}")


def _is_object(value):
    """Whether an inert object is one of the archive's classes. ValueError: only its own code could make sense of its state."""
    if not type(value).__module__.startswith("__torch__"):
        return False
    if not isinstance(value.state, dict):
        raise ValueError(f"{type(value).__name__} keeps its values in a form that only its own code can read")
    return True


def _tensor(values, offset, shape, strides, *_):
    """A view of a storage's values; ValueError where it would be larger than they are, or reach beyond them."""
    offset, shape, strides = _whole(offset), [*map(_whole, shape)], [*map(_whole, strides)]
    count, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        count *= size
        last += (size - 1) * stride
    if not isinstance(values, torch.Tensor) or offset > len(values) or (count and max(last + 1, count) > len(values)):
        raise ValueError(f"a tensor of shape {shape} is larger than its values")
    return values.as_strided(shape, strides, offset)


def _whole(number):
    if type(number) is not int or not 0 <= number < 2**62:
        raise ValueError("a size that PyTorch doesn't write")
    return number
