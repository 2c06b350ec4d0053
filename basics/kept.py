"""Small results that are kept from run to run, because a run would spend its start on computing them anew.

A result is JSON data and a function of its identity: JSON data, too. It lies in a file of the user's cache folder
(``$XDG_CACHE_HOME/mocoop``, by default ``~/.cache/mocoop``) that is named after the identity's hash, beside the identity in full
and a hash of both; a file that isn't whole counts as none. Where the folder can't be written to nothing is kept.
"""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import atomic_write
from .hashes import digest

MOST = 2000  # files; of more, those that weren't used for longest are removed
SETTLED = 2.0  # seconds for which a file must not have changed: what is written later in the same instant doesn't show


def folder() -> Path:
    """Where results are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mocoop"


def recall(kind: str, identity: Any) -> Any:
    """The result that was kept of an identity, or None."""
    try:
        path = _path(kind, identity)
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(content, dict) and content["sha256"] == digest([content["identity"], content["result"]])
        if not whole or digest(content["identity"]) != digest(identity):
            return None
        os.utime(path)
        return content["result"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: nobody knows the user's home
        return None


def keep(kind: str, identity: Any, result: Any) -> None:
    """Keep a result; in vain where that isn't possible."""
    with contextlib.suppress(OSError, UserError, RuntimeError):
        path = _path(kind, identity)
        content = {"identity": identity, "result": result, "sha256": digest([identity, result])}
        with atomic_write(str(path), "w") as file:
            json.dump(content, file)
        _make_room(path.parent)


def stamp(path: str) -> list[Any] | None:
    """What changes when a file does: [its real path, size, times of change in ns, inode, device]; None where that isn't sure.

    It isn't for a file that has changed just now (``SETTLED``): a later change may bear the same time.
    """
    try:
        path = os.path.realpath(path)
        s = os.stat(path)
    except OSError:
        return None
    age = time.time() - max(s.st_mtime, s.st_ctime)
    return [path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev] if age > SETTLED else None


def _path(kind, identity):
    return folder() / f"{kind}-{digest(identity)[:40]}.json"


def _make_room(place):
    files = sorted(place.glob("*.json"), key=lambda file: file.stat().st_mtime)
    for file in files[:-MOST]:
        file.unlink()
