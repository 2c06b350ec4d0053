"""Image features of frozen encoders, kept on disk and shared by all runs that would compute the very same ones.

An entry is one safetensors file. Its name is the hash of everything that it is a function of (``identity``); inside
stand that identity in full, a stamp of the image files, and a hash of the data. All three are checked when it is read.
Entries are written beside their place and renamed, and computed under a lock, so that of several runs at once one
computes and the others wait. Large ones are written while they are computed and stay in their file.
"""

import contextlib
import hashlib
import inspect
import itertools
import json
import os
import re
from pathlib import Path

import torch

from basics import UserError, atomic_path
from basics.files import remove_parts
from basics.light import version_in
from basics.locks import in_turn

from .feature_file import HASH, Rows, as_bytes, data_hash, write_rows

SUFFIX = ".safetensors"
_ENTRY = re.compile(r"[0-9a-f]{40}\.safetensors")
_HEADER = 1000  # bytes of an entry beside data and identity, at most
_HELD = 64 << 20  # bytes of features that are held in memory; larger ones are read as they are needed
_ABANDONED_AFTER = 24 * 3600  # seconds after which a partly written file is a killed run's


class FeatureCache:
    """A folder of entries.

    Args:
        folder: where; created when the first entry is kept.
        max_gb: when the entries are larger together, the least recently used ones are removed.
        log: takes the lines that tell what happened.
    """

    def __init__(self, folder, max_gb, log=print):
        if max_gb <= 0:
            raise UserError(f'TRAINER.FEATURE_CACHE_GB {max_gb}: must be above 0 (TRAINER.FEATURE_CACHE "": no cache)')
        self.folder, self.max_bytes, self.log = Path(folder), max_gb * 1e9, log
        self._writable, self._full = True, False

    def fetch(self, what, identity, stamp, rows, compute):
        """The entry of ``identity``, computed if it isn't there or no longer true.

        Args:
            what: its name in the log.
            identity: JSON data, everything that the features are a function of but for what is in the image files.
            stamp: text that changes when these do (see ``files_stamp``).
            rows: number of features.
            compute: function without arguments -> features in batches [b, E] on the CPU, all of one type, the same in every call.

        Returns:
            (features [n, E]: a tensor, or ``Rows`` where they are large, which has ``split`` and ``nbytes``, too; whether they
            were read from the disk)
        """
        identity = json.dumps(identity, sort_keys=True)
        path = self.folder / (hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:40] + SUFFIX)
        features = self._read(path, what, identity, stamp, quiet=True)
        if features is not None:
            return features, True
        with self._lock(path, what):
            features = self._read(path, what, identity, stamp)  # another run may have computed it meanwhile
            if features is not None:
                return features, True
            return self._computed(path, what, {"identity": identity, "stamp": stamp}, rows, compute), False

    def size(self):
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    # -- one entry ---------------------------------------------------------------------------------------------------

    def _read(self, path, what, identity, stamp, quiet=False):
        say = (lambda text: None) if quiet else self.log
        if not path.is_file():
            return None
        try:
            found = Rows(path)
            features = found.read(0, len(found)) if found.nbytes <= _HELD else found
            whole = data_hash(found.dtype, found.shape, [features]) if features is not found else found.hash()
        except (OSError, ValueError) as e:
            say(f"{path} is damaged ({(str(e) or type(e).__name__).splitlines()[0]}); {what}: encoding again")
            return None
        if found.about.get("identity") != identity or found.about.get(HASH) != whole:
            say(f"{path} is damaged (its contents don't match its own description); {what}: encoding again")
            return None
        if found.about.get("stamp") != stamp:
            say(f"{what}: image files have changed since their features were kept; encoding again")
            return None
        with contextlib.suppress(OSError):  # a folder that may only be read; removed by then
            os.utime(path)  # marks it as used
        return features

    def _computed(self, path, what, about, rows, compute):
        """The features, kept where that is possible."""
        batches = iter(compute())
        first = next(batches)
        batches = itertools.chain([first], batches)
        data = rows * first[0].nbytes
        size = data + len(about["identity"]) + _HEADER
        if size > self.max_bytes and self._writable:
            limit = megabytes(self.max_bytes)
            self.log(f"{what}: {megabytes(size)} are more than the feature cache may hold ({limit}); not kept")
        if size > self.max_bytes or not self._writable:
            return torch.cat(list(batches))
        if data <= _HELD:
            features = torch.cat(list(batches))
            self._write(path, rows, [features], about, what)
            return features
        kept = self._write(path, rows, _marked(batches), about, what)
        return torch.cat(list(compute())) if kept is None else kept

    def _write(self, path, rows, parts, about, what):
        """Keep features that come in parts; the ``Rows`` in the file, or None where that is not possible."""
        try:
            with atomic_path(str(path)) as temporary:
                write_rows(temporary, rows, parts, about)
                kept = Rows(temporary)  # open before another run may remove it
            kept.path = path
            self._make_room(path)
            return kept
        except _NotComputed as e:
            raise e.error from None
        except (OSError, UserError) as e:
            self._writable = False
            reason = str(e).splitlines()[0]
            self.log(f"{what}: features can't be kept in {self.folder} ({reason}); the run goes on without")
            return None

    @contextlib.contextmanager
    def _lock(self, path, what):
        """Only one process computes an entry. Where the file system has no locks all do: which is slower and just as exact."""
        folder = self.folder / "locks"  # at most 256 files, never removed
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        with in_turn(folder / path.name[:2], lambda: self.log(f"{what}: another run is encoding images; waiting for it")):
            yield

    # -- all of them -------------------------------------------------------------------------------------------------

    def _entries(self):
        """[(time of last use, bytes, path)], oldest first."""
        found = []
        remove_parts(self.folder, older_than=_ABANDONED_AFTER)
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(OSError):  # removed by another run
                    if _ENTRY.fullmatch(entry.name):
                        found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        return sorted(found)

    def _make_room(self, newest):
        entries = self._entries()
        total, removed = sum(size for _, size, _ in entries), False
        for _, size, path in entries:
            if total <= self.max_bytes:
                break
            if path != str(newest):
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    removed = True
                total -= size
        if removed and not self._full:
            self._full = True  # said once
            self.log(f"The feature cache {self.folder} is full: the least recently used entries make room for new ones")


class _NotComputed(Exception):
    """What went wrong in computing features, not in keeping them: ``error``."""

    def __init__(self, error):
        super().__init__(error)
        self.error = error


def _marked(batches):
    """The same batches; an error of theirs is told from one of writing them."""
    try:
        yield from batches
    except Exception as e:
        raise _NotComputed(e) from e


def megabytes(size):
    """Bytes as text."""
    return f"{size / 1e6:.1f} MB"


def files_stamp(paths):
    """Hash of the sizes and times of files, that changes when one is replaced or written to.

    Raises:
        UserError: a file is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            s = os.stat(path)
        except OSError as e:
            raise UserError(f"image not found: {path} ({e.strerror})") from e
        digest.update(f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns};".encode())
    return digest.hexdigest()


def weight_marks(module):
    """What changes when a weight or buffer of a module is written to or replaced."""
    return [(t.data_ptr(), t._version) for t in module.state_dict(keep_vars=True).values()]


def module_hash(module):
    """SHA-256 of what a module computes: its architecture as far as it shows, and all weights and buffers."""
    heads = [getattr(m, "num_heads", None) for m in module.modules()]  # not in repr
    digest = hashlib.sha256(f"{module} {heads}".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(as_bytes(tensor))
    return digest.hexdigest()


def describe(transform):
    """Text of what a transform does, the same in every process, or None if it can't be told (a function, say)."""
    if inspect.isroutine(transform):
        return None
    if hasattr(transform, "transforms"):  # a chain
        parts = [describe(t) for t in transform.transforms]
    elif type(transform).__repr__ is not object.__repr__:
        text = repr(transform)
        return None if " at 0x" in text or "Lambda()" in text else text  # torchvision's Lambda hides its function
    elif not hasattr(transform, "__dict__"):
        return None
    else:
        values = {name: describe(value) for name, value in sorted(vars(transform).items())}
        parts = [f"{name}={value}" if value else None for name, value in values.items()]
    return None if None in parts else f"{type(transform).__qualname__}({', '.join(parts)})"


def arithmetic(device, arrangement=""):
    """Text of what decides the last bits of a result: device, threads, library versions, ``CLIP.arrangement``."""
    import PIL

    device = torch.device(device)
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{device.type} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, torchvision {version_in('torchvision')}, open_clip {version_in('open_clip')}"
    arrangement = arrangement and f", {arrangement}"
    return f"{where}, {torch.get_float32_matmul_precision()}, {versions}, Pillow {PIL.__version__}{arrangement}"
