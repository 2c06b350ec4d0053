"""Small file helpers of the datasets: atomic writing that copes with a read-only data folder."""

import json
import os
import tempfile


def write_json_atomically(obj, path):
    """Write `obj` as JSON so that no reader ever sees half a file, also with several processes at once.

    Returns:
        True, or False (with a printed note) where the folder cannot be written: what is written here can always be
        made again, so a read-only data folder must not stop a run.
    """
    folder = os.path.dirname(path) or "."
    tmp = None
    try:
        os.makedirs(folder, exist_ok=True)
        fd, tmp = tempfile.mkstemp(dir=folder, prefix=".tmp-", suffix=".json")
        with os.fdopen(fd, "w", encoding="utf-8") as f:
            json.dump(obj, f, indent=1, ensure_ascii=False)
        os.chmod(tmp, 0o666 & ~_umask())
        os.replace(tmp, path)
        return True
    except OSError as error:
        print(f"Note: cannot write {path} ({error.strerror or error}); going on without it")
        if tmp and os.path.exists(tmp):
            os.unlink(tmp)
        return False


def _umask():
    """The process's umask: files made by mkstemp are private, but a data folder is often shared."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
