"""How a program of this project ends: an exit status for every kind of error, and one line for what a user can mend."""

import argparse
import contextlib
import errno
import gc
import io
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from . import home
from .errors import UserError, printable

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_BROKEN_PIPE = 2, 130, 143, 141
EXIT_STATUSES = "Exit status: 0 done, 2 wrong input (message on stderr), 130 Ctrl-C, 143 SIGTERM."
TOO_MANY_FILES = "more open files than this process may have (ulimit -n); raise the limit, or set DATALOADER.NUM_WORKERS 0"
NO_SHARED_MEMORY = (
    "no space left in /dev/shm, the shared memory that loading workers need; set DATALOADER.NUM_WORKERS 0, or give the container "
    "more (docker run --shm-size 1g)"
)
FILE_SYSTEM_ERRORS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "disk quota exceeded",
    errno.EFBIG: "file larger than this file system or the limit of this process (ulimit -f) allows",
    errno.EIO: "input/output error, of a disk or network drive that fails",
    errno.ESTALE: "the network drive has lost this file",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENFILE: TOO_MANY_FILES,
}
INSTALLED = {  # modules of the packages that `make venv` installs
    "torch", "torchvision", "open_clip", "numpy", "PIL", "yacs", "yaml", "tabulate", "tqdm", "gdown", "safetensors", "sklearn",
    "threadpoolctl", "scipy", "matplotlib", "pandas", "tensorboard", "ray",
}  # fmt: skip
PACKAGE_OF = {"pkg_resources": "'setuptools<81'", "cv2": "opencv-python", "skimage": "scikit-image"}  # where names differ


_ended_by: list[OSError] = []  # errors of threads for which the main thread has been ended


class Terminated(BaseException):
    """Raised in the main thread by SIGTERM; a BaseException, so that no `except Exception` swallows it."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are UserErrors: one line, printed where all errors are."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")

    def add_settings(self, help: str) -> None:
        """Add ``--set KEY VALUE``, which may be given several times: ``args.pairs`` is [[key, value], …]."""
        self.add_argument("--set", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), dest="pairs", help=help)


def on_sigterm(signum: int, frame: object) -> NoReturn:
    """Signal handler that raises Terminated."""
    raise Terminated


def explain(error: BaseException, after: str = "") -> tuple[int, str] | None:
    """(exit status, message) for what a user can mend or asked for; None for a bug.

    ``after`` follows the message where the program was stopped: what the same command does next.
    """
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted" + after
    if isinstance(error, Terminated) and _ended_by:
        return explain(_ended_by[0], after)
    if isinstance(error, Terminated):
        return EXIT_TERMINATED, "terminated" + after
    if isinstance(error, BrokenPipeError):
        return EXIT_BROKEN_PIPE, "error: the program that reads this output has ended"
    text = _explain_in_words(error, after)
    return None if text is None else (EXIT_USER_ERROR, f"error: {text}")


def _explain_in_words(error: BaseException, after: str) -> str | None:
    """What stands after `error: `, or None for a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (OSError, RuntimeError)) and re.search(r"Too many open files|items of ancdata", str(error)):
        return TOO_MANY_FILES  # in another process, or by torch: without a number
    if _is_about_shared_memory(error):
        return NO_SHARED_MEMORY
    if isinstance(error, OSError) and error.errno in FILE_SYSTEM_ERRORS:
        place = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return FILE_SYSTEM_ERRORS[error.errno] + place
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which may not be loaded
        return (
            f"out of GPU memory ({str(error).splitlines()[0]}); lower DATALOADER.TRAIN_X.BATCH_SIZE or "
            "DATALOADER.TEST.BATCH_SIZE, or set TRAINER.CHECKPOINTING True"
        )
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)):
        asked = re.search(r"allocate (\d+) bytes", str(error))
        size = f" ({int(asked[1]) / 1e9:.1f} GB were asked for)" if asked else ""
        return f"out of memory{size}; lower DATALOADER.TRAIN_X.BATCH_SIZE, or the sizes of what the method learns"
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        return f"{str(error).strip(' .')}. The system ends processes when memory runs out: lower DATALOADER.NUM_WORKERS" + after
    if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] not in home.PACKAGES:
        module = str(error.name).split(".")[0]
        missing = f"the Python package {module} is not installed for {sys.executable}"
        install = f"{sys.executable} -m pip install {PACKAGE_OF.get(module, module)}"
        if module in INSTALLED:
            return f"{missing}; {install if home.INSTALLED else '`make venv` sets up .venv with all that this project needs'}"
        needed = "mocoop doesn't need it itself" if home.INSTALLED else "`make venv` doesn't install it"
        return f"{missing}; what imports it is not part of this project, and {needed}: {install}"
    return None


def _is_about_shared_memory(error):
    """Whether workers and their run have no room for what they hand over, which looks like a full disk or a killed worker."""
    text = str(error)
    if isinstance(error, RuntimeError) and re.search("torch_[0-9_]+>.*No space left|Bus error", text):
        return True
    if not isinstance(error, OSError) or getattr(error, "filename", None) or "No space left" not in text:
        return False
    try:
        shared = os.statvfs("/dev/shm")
    except OSError:
        return False
    return shared.f_bavail * shared.f_frsize < 1 << 20


def one_line(text: str) -> str:
    """``text`` as one line that a terminal can show."""
    return " ".join(printable(text).split())


def to_stderr(message: str, status: int) -> None:
    """Print what a program ended with."""
    sys.stderr.write(message + "\n")


def _on_thread_error(args):
    """Show the traceback of a thread, but for errors of files: TensorBoard's thread hands those on.

    Nothing hands on that files are lacking: the main thread would wait for the other one for ever, and is ended.
    """
    if isinstance(args.exc_value, OSError) and args.exc_value.errno in (errno.EMFILE, errno.ENFILE):
        _ended_by.append(args.exc_value)
        os.kill(os.getpid(), signal.SIGTERM)
    elif not (isinstance(args.exc_value, OSError) and args.exc_value.errno in (*FILE_SYSTEM_ERRORS, errno.ENOENT)):
        threading.__excepthook__(args)


def _on_exception(kind, error, traceback):
    """Show a traceback, but for that of a loading worker whose connection to the run has ended with the run."""
    if not (issubclass(kind, (ConnectionError, EOFError)) and multiprocessing.parent_process()):
        sys.__excepthook__(kind, error, traceback)


def _on_unraisable(args):
    """Send an interruption again if it came while Python ran a callback: Python drops exceptions there."""
    if issubclass(args.exc_type, (KeyboardInterrupt, Terminated)):
        number = signal.SIGINT if args.exc_type is KeyboardInterrupt else signal.SIGTERM
        again = threading.Timer(0.1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(args)


def _standard_streams():
    """Give a process whose standard streams are closed others that lead nowhere: a file would take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != number:
                    os.dup2(nowhere, number)
                    os.close(nowhere)
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal can't show, names that aren't UTF-8 too, it shows as \\x..
            stream.reconfigure(errors="backslashreplace")


def _raise_limit_of_files():
    """Let the process have as many open files as the system allows it: the usual 1,024 are few for loading workers."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))


@contextlib.contextmanager
def _hooks():
    """Python's hooks for exceptions that no one catches, while a program runs."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    sys.excepthook, threading.excepthook, sys.unraisablehook = _on_exception, _on_thread_error, _on_unraisable
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = before


def run(work: Callable[[], Any], after: str = "", report: Callable[[str, int], None] = to_stderr) -> int:
    """Do ``work()`` and return the exit status; Ctrl-C and SIGTERM end it in good order. A bug keeps its traceback.

    Args:
        work: function without arguments. What it returns is the exit status if it is an int, else that is 0.
        after: see ``explain``; or a function that returns it, called at the end.
        report: function of (message, exit status), called with the one line that the program ends with.
    """
    _standard_streams()
    _raise_limit_of_files()
    signals = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, on_sigterm) if signals else None
    try:
        with _hooks():
            done = work()
        return done if type(done) is int else 0
    except BaseException as error:
        explained = explain(error, after() if callable(after) else after)
        if explained is None:
            raise
        status, message = explained
        report(one_line(message), status)
        return status
    finally:
        if signals:
            signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """In this block a program imports PyTorch: what modules make stays, so Python is never to look for garbage among it.

    That spares a fifth of the time that importing PyTorch and ending take. Where it is there already nothing is done: what an
    earlier run of this process has left is garbage.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def as_process(main: Callable[[], Any]) -> int:
    """``run(main)`` for a process of its own, which is to end with this status: Ctrl-C meanwhile leaves no traceback."""
    try:
        status = run(main)
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if status == EXIT_BROKEN_PIPE:  # else Python complains once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
