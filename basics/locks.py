"""Locks on folders: held by one process, given back when it ends however it ends.

A lock is the operating system's (``flock``) on the file ``.lock``. Some network file systems have none (they answer ENOSYS or
ENOLCK); there the lock is a lease: a file ``.lease`` that says who holds it, whose time of change the holder renews. A lease is
void when its process has ended (on the same machine), or when it has not been renewed for ``VOID_AFTER`` seconds (elsewhere).
"""

import contextlib
import errno
import fcntl
import json
import os
import os.path as osp
import secrets
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import IO

from .errors import UserError
from .files import PART_SUFFIX, mkdir_if_missing

LOCK, LEASE = ".lock", ".lease"
RENEWED_EVERY = 30.0  # seconds
VOID_AFTER = 300.0  # seconds
_HELD_BY_ANOTHER = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_held: weakref.WeakSet[IO[str]] = weakref.WeakSet()


class Lock:
    """What ``lock_folder`` returns: ``close()``, or the end of a ``with`` block, gives the lock back."""

    def __init__(self, file):
        self._file = of_this_process(file)

    def close(self):
        """Give the lock back."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()


def lock_folder(folder: str | os.PathLike) -> Lock:
    """Take a folder for this process.

    Raises:
        UserError: another process holds it, or the folder can't be written; says what is known of the holder.
    """
    mkdir_if_missing(folder)
    path = osp.join(folder, LOCK)
    try:
        file = open(path, "a+", encoding="utf-8")
    except OSError as e:
        raise UserError(f"cannot write into the output folder {folder}: {e.strerror}") from e
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        if e.errno not in _HELD_BY_ANOTHER:
            return _Lease(folder)
        raise UserError(
            f"output folder in use by another run (pid {pid}): {folder}; wait for it or choose another --output-dir"
        ) from e
    try:
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
    except OSError as e:
        with contextlib.suppress(OSError):  # tries to write once more
            file.close()
        raise UserError(f"cannot write into the output folder {folder}: {str(e.strerror).lower()}") from e
    return Lock(file)


def of_this_process(file: IO[str]) -> IO[str]:
    """A file that is locked, or about to be: forks of this process close it at once.

    A lock goes when all processes have closed its file. Data-loading workers are forks, which outlive a killed run: with a
    copy of their own they would keep the next run waiting.
    """
    _held.add(file)
    return file


@contextlib.contextmanager
def in_turn(path: str | os.PathLike, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A block that one process at a time is in. Where the file system has no locks, or ``path`` can't be written, all are.

    Args:
        path: a file, made where it is missing and not removed.
        waiting: called if this process has to wait.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = of_this_process(stack.enter_context(open(path, "a")))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_in_child():
    for file in list(_held):
        file.close()


os.register_at_fork(after_in_child=_forget_in_child)


class _Lease(Lock):
    """A lease on a folder, renewed by a thread until it is closed."""

    def __init__(self, folder):
        self.path, self.folder, self.pid = osp.join(folder, LEASE), folder, os.getpid()
        self.token = secrets.token_hex(8)
        print(f"Note: the file system of {folder} has no locks; {LEASE} in it says that this run is under way")
        for _ in range(3):  # an earlier one may have to be taken away first
            if self._write():
                break
            self._take_away_or_refuse()
        else:
            raise UserError(f"output folder in use by another run that started just now: {folder}; choose another --output-dir")
        self._ended = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def _write(self):
        """Whether the lease is this process' now: a link is made in one step, or not at all, on network drives too."""
        who = {"token": self.token, **_this_process(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
        fd, own = tempfile.mkstemp(prefix=".lease.", suffix=PART_SUFFIX, dir=self.folder)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(who, file)
            os.link(own, self.path)
        except FileExistsError:
            return False
        except OSError as e:
            raise UserError(f"cannot write into the output folder {self.folder}: {e.strerror}") from e
        finally:
            os.unlink(own)
        return True

    def _take_away_or_refuse(self):
        """Take away a void lease; UserError for another's that holds."""
        try:
            holder, age = _read(self.path), self._age()
        except FileNotFoundError:
            return
        here = _this_process()
        if holder.get("host") == here["host"] and holder.get("boot") == here["boot"]:
            void = _start_of(holder.get("pid")) != holder.get("process_start")
        else:
            void = age > VOID_AFTER
        if not void:
            pid, host, since = (holder.get(name, "unknown") for name in ("pid", "host", "started"))
            raise UserError(
                f"output folder in use by another run (pid {pid} on {host}, since {since}, last sign of life {max(0, age):.0f} s "
                f"ago): {self.folder}; wait for it or choose another --output-dir. If that run has ended, delete {self.path}"
            )
        aside = f"{self.path}.{self.token}{PART_SUFFIX}"
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.rename(self.path, aside)
            if _read(aside).get("token") != holder.get("token"):  # it was, and holds the folder now
                os.link(aside, self.path)
            os.unlink(aside)

    def _age(self):
        """Seconds since the lease was renewed, by the clock of the file system."""
        with tempfile.NamedTemporaryFile(prefix=".lease.", suffix=PART_SUFFIX, dir=self.folder) as now:
            return os.stat(now.name).st_mtime - os.stat(self.path).st_mtime

    def _renew(self):
        while not self._ended.wait(RENEWED_EVERY):
            with contextlib.suppress(OSError):
                if _read(self.path).get("token") == self.token:
                    os.utime(self.path)

    def close(self):
        """Give the lease back."""
        self._ended.set()
        with contextlib.suppress(OSError):
            if os.getpid() == self.pid and _read(self.path).get("token") == self.token:
                os.unlink(self.path)


def _read(path):
    """The holder in a lease; {} where it isn't one. FileNotFoundError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            holder = json.load(file)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _this_process():
    """{host, boot, pid, process_start} of this process; boot: the machine's start, so that a reused pid isn't taken for it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:  # not Linux
        boot = ""
    return {"host": socket.gethostname(), "boot": boot, "pid": os.getpid(), "process_start": _start_of(os.getpid())}


def _start_of(pid):
    """Text that tells a process from an earlier one with its number; None where there is no such process."""
    try:
        with open(f"/proc/{int(pid)}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]  # in ticks since the machine's start
    except (OSError, ValueError, TypeError):
        if osp.isdir("/proc/self"):
            return None
    with contextlib.suppress(OSError, ValueError, TypeError):  # not Linux
        os.kill(int(pid), 0)
        return "running"
    return None
