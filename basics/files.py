"""Files and folders: read with errors for users, written whole or not at all."""

import contextlib
import errno
import json
import os
import os.path as osp
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

from .errors import UserError

# what a file is called while it is written: a name that nothing else has, so that what a killed run left can be told
PART_SUFFIX = ".mocoop-part"


def relative_to(path: str, folder: str) -> str:
    """``os.path.relpath(path, folder)`` for an absolute, normal ``folder``, without its work where it only cuts the path."""
    rest = path[len(folder) + 1 :]
    plain = path.startswith(folder + "/") and rest and "//" not in path and "/." not in path and not rest.endswith("/")
    return rest if plain and rest[0] != "." else osp.relpath(path, folder)


def mkdir_if_missing(dirname: str | os.PathLike) -> None:
    """Create the folder and its parents; UserError when that is not possible."""
    if not dirname:
        return
    try:
        os.makedirs(dirname, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot create the folder {dirname}: {e.strerror}") from e


def listdir_nohidden(path: str | os.PathLike, sort: bool = False) -> list[str]:
    """Return the names in a folder that do not start with a dot. UserError when there is no such folder."""
    try:
        items = [name for name in os.listdir(path) if not name.startswith(".")]
    except OSError as e:
        raise UserError(f"cannot list the folder {path}: {e.strerror}") from e
    return sorted(items) if sort else items


def remove_parts(folder: str | os.PathLike, older_than: float = 0.0) -> None:
    """Remove partly written files of killed runs from a folder, and no others.

    Args:
        folder: of the files; it may be missing.
        older_than: seconds since they were last written; younger ones may be another process'.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(os.fspath(folder)):
            with contextlib.suppress(OSError):
                is_part = entry.name.startswith(".") and entry.name.endswith(PART_SUFFIX)
                if is_part and time.time() - entry.stat().st_mtime >= older_than:
                    os.unlink(entry.path)


@contextlib.contextmanager
def atomic_path(fpath: str | os.PathLike) -> Iterator[str]:
    """The name of an empty file beside ``fpath`` that takes its place when the block ends well and the bytes are on disk.

    For writers that open files themselves; whatever goes wrong, ``fpath`` is then as it was before. UserError when the
    disk is full or the folder cannot be written.
    """
    folder = osp.dirname(fpath) or "."
    tmp = None
    try:
        os.makedirs(folder, exist_ok=True)
        fd, tmp = tempfile.mkstemp(prefix=f".{osp.basename(fpath)}.", suffix=PART_SUFFIX, dir=folder)
        os.close(fd)
        yield tmp
        with open(tmp, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(tmp, 0o666 & ~umask)  # mkstemp makes files private
        os.replace(tmp, fpath)
        tmp = None
    except OSError as e:
        reason = "no space left on the disk" if e.errno in (errno.ENOSPC, errno.EDQUOT) else e.strerror or str(e)
        raise UserError(f"cannot write {fpath}: {reason}; what was there before is unchanged") from e
    finally:
        if tmp is not None:
            with contextlib.suppress(OSError):
                os.unlink(tmp)


@contextlib.contextmanager
def atomic_write(fpath: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``fpath`` as ``atomic_path`` says; text is UTF-8."""
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")  # names of files needn't be UTF-8
    with atomic_path(fpath) as tmp, open(tmp, mode, encoding=encoding, errors=errors) as file:
        yield file


def write_text(text: str, fpath: str | os.PathLike) -> None:
    """Write ``text`` as UTF-8; the file is replaced atomically."""
    with atomic_write(fpath, "w") as file:
        file.write(text)


def write_json(obj: Any, fpath: str | os.PathLike) -> None:
    """Write ``obj`` as JSON; the file is replaced atomically."""
    write_text(json.dumps(obj, indent=4, separators=(",", ": ")), fpath)


def read_json(fpath: str | os.PathLike) -> Any:
    """Read a JSON file. UserError names the file (and line) when it is missing or malformed."""
    try:
        with open(fpath, encoding="utf-8") as f:
            return json.load(f)
    except OSError as e:
        raise UserError(f"cannot read {fpath}: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise UserError(f"{fpath}, line {e.lineno}: not valid JSON ({e.msg})") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{fpath}: not a text file in UTF-8") from e
    except (RecursionError, ValueError) as e:  # brackets without end, a number of thousands of digits
        raise UserError(f"{fpath}: not JSON that can be read ({e})") from e
