"""A file of rows: one tensor [n, E] in safetensors' format, written and read in parts, so that it is never all in memory.

The library itself writes and reads whole tensors. Its format is the length of a header (8 bytes), the header (JSON: text of one's
own, type and shape), and the values; ``safetensors.torch.load_file`` reads these files.
"""

import hashlib
import itertools
import json
import os
import struct
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basics import UserError

NAME = "features"  # of the tensor
HASH = "data"  # of the text that is the hash of the values
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
_PART = 1 << 24  # bytes that are hashed at a time
_LONGEST = 1 << 26  # bytes of a header: names of a million images are hashed, so it is far shorter


class Rows:
    """Rows [n, E] of a file, which stays open: renaming or deleting it takes nothing away.

    Args:
        path: of the file.

    Attributes:
        about: {name: text}, what its writer put beside the values. shape: (n, E). dtype: of the values.

    Raises:
        OSError: it can't be read; ValueError: it is not a whole file of this kind.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close = weakref.finalize(self, os.close, self._file)
        (length,) = struct.unpack("<Q", self._bytes(0, 8))
        if length > _LONGEST:
            raise ValueError("its header has no end")
        header = json.loads(self._bytes(8, length))
        self._start = 8 + length
        try:
            self.about, entry = header["__metadata__"], header[NAME]
            self.dtype, self.shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
            offsets, (rows, width) = entry["data_offsets"], self.shape
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"its header isn't that of a file of rows ({e!r})") from e
        self._row = width * self.dtype.itemsize
        if offsets != [0, rows * self._row] or os.fstat(self._file).st_size != self._start + rows * self._row:
            raise ValueError("its size isn't what its header says")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return len(self) * self._row

    def read(self, first: int, count: int) -> Tensor:
        """Rows [count, E] from number ``first`` on. OSError or ValueError where they can't be read."""
        data = self._bytes(self._start + first * self._row, count * self._row)
        return torch.frombuffer(data, dtype=self.dtype).view(count, self.shape[1]) if data else torch.empty(count, self.shape[1])

    def split(self, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Rows in parts of these sizes, as ``Tensor.split`` has them, each read when it is asked for.

        Raises:
            UserError: the file can't be read any more.
        """
        first = 0
        for size in sizes:
            try:
                part = self.read(first, size)
            except (OSError, ValueError) as e:
                raise UserError(f"{self.path}: kept features of images can't be read any more ({e}); start the run again") from e
            yield part
            first += size

    def hash(self) -> str:
        """SHA-256 of type, shape and values."""
        some = max(1, _PART // max(1, self._row))
        return data_hash(self.dtype, self.shape, (self.read(i, min(some, len(self) - i)) for i in range(0, len(self), some)))

    def _bytes(self, start: int, count: int) -> bytearray:
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            got = os.preadv(self._file, [view[done:]], start + done)
            if not got:
                raise ValueError("it ends too early")
            done += got
        return data


def write_rows(path: str | Path, rows: int, parts: Iterable[Tensor], about: dict[str, str]) -> None:
    """Write ``rows`` rows that come in parts [b, E] of one type. about: {name: text} beside them; the values' hash is added.

    Raises:
        OSError: the disk is full or doesn't work; ValueError: there are other rows than said.
    """
    parts = iter(parts)
    first = next(parts)
    with open(path, "wb") as file:
        file.write(_header(rows, first, about, "0" * 64))
        written = 0

        def passing() -> Iterator[Tensor]:
            nonlocal written
            for part in itertools.chain([first], parts):
                file.write(as_bytes(part))
                written += len(part)
                yield part

        value = data_hash(first.dtype, (rows, first.shape[1]), passing())
        if written != rows:
            raise ValueError(f"{written} rows, not {rows}")
        file.seek(0)
        file.write(_header(rows, first, about, value))


def _header(rows: int, part: Tensor, about: dict[str, str], value: str) -> bytes:
    code = next(code for code, dtype in _DTYPES.items() if dtype == part.dtype)
    size = rows * part.shape[1] * part.dtype.itemsize
    entry = {"dtype": code, "shape": [rows, part.shape[1]], "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": {**about, HASH: value}, NAME: entry}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def data_hash(dtype: torch.dtype, shape: tuple[int, ...], parts: Iterable[Tensor]) -> str:
    """SHA-256 of a tensor's type, shape and values; ``parts``: its rows in turn."""
    digest = hashlib.sha256(f"{NAME} {dtype} {tuple(shape)};".encode())
    for part in parts:
        digest.update(as_bytes(part))
    return digest.hexdigest()


def as_bytes(tensor: Tensor) -> Any:
    """The values of a tensor as they lie in memory; a view where it is on the CPU and in one piece."""
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
