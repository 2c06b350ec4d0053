"""Copies what is printed into ``log.txt``, and locks an output folder against a second run."""

import os
import os.path as osp
import re
import sys

from basics import UserError, printable
from basics.files import remove_parts
from basics.locks import lock_folder

from .tools import mkdir_if_missing

__all__ = ["Logger", "lock_output_dir", "setup_logger"]

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")


class Logger:
    """A text stream that writes to the console and, as plain text, to a file.

    The file gets whole lines without terminal escapes; of a line that was redrawn with carriage returns (a progress
    bar) it gets the last state. The console shows control characters written out: paths and settings may hold some.
    """

    def __init__(self, fpath=None):
        self.console = sys.stdout
        self.file = None
        self._line = ""
        if fpath is not None:
            mkdir_if_missing(osp.dirname(fpath))
            try:
                # appended: a resumed run continues the log of the run that it resumes
                self.file = open(fpath, "a", encoding="utf-8", errors="backslashreplace", buffering=1)
            except OSError as e:
                raise UserError(f"cannot write the log {fpath}: {e.strerror}") from e

    def write(self, msg):
        """Write ``msg`` to the console, and its complete lines to the file."""
        written = len(msg)
        self.console.write("\r".join(map(printable, msg.split("\r"))))
        if self.file is not None:
            *lines, self._line = (self._line + msg).split("\n")
            try:
                for line in lines:
                    self.file.write(_plain(line) + "\n")
            except OSError as e:
                e.filename = self.file.name  # a full disk names no file
                raise
            if lines:
                self.console.flush()  # a piped run can be followed, too
        return written

    def flush(self):
        """Flush both streams."""
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def close(self):
        """Write what is left of an unfinished line and close the file (the console stays open)."""
        if self.file is not None:
            if self._line:
                self.file.write(_plain(self._line) + "\n")
            self.file.close()
            self.file = None

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def __getattr__(self, name):
        # whatever else a stream has (isatty, encoding, fileno …) is the console's
        if name == "console":
            raise AttributeError(name)
        return getattr(self.console, name)


def _plain(line):
    line = _ESCAPE.sub("", line).rstrip("\r")
    return line.rsplit("\r", 1)[-1]


def setup_logger(output=None):
    """Let everything printed from now on also go to ``output`` (a .txt or .log file) or ``output/log.txt``."""
    if not output:
        return
    fpath = output if output.endswith((".txt", ".log")) else osp.join(output, "log.txt")
    if isinstance(sys.stdout, Logger):  # a second run in one process has its own log
        previous, sys.stdout = sys.stdout, sys.stdout.console
        previous.close()
    sys.stdout = Logger(fpath)


def lock_output_dir(path):
    """Take the output folder ``path`` for this process; return the lock (hold on to it; ``close()`` gives it back).

    UserError when another run holds it, with what is known of that one. Partly written files that a killed run has left in
    the folder, and in the folders in it, are removed.
    """
    lock = lock_folder(path)
    for folder in (path, *(entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))):
        remove_parts(folder)
    return lock
