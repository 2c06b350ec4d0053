"""Runs of train.py as forks of a process that has imported PyTorch and the methods: a run starts in a tenth of a second.

Importing takes more CPU time than an evaluation that reads kept features. ``reproduce.warm_process`` says how a run is kept apart
from others. Without Linux every run is a process of its own: on other systems forks of a process with PyTorch in it aren't safe.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys

from basics import home
from reproduce.processes import Background, exit_status, python

_kept = None  # the latest Warm or Background of this process


class Warm(Background):
    """As ``Background``; commands are children of a process that stays for the next ones, and ends with this process."""

    def __init__(self, environment, folder):
        super().__init__(environment, folder)
        self.process = self.control = None

    def run(self, command):
        """Run `command` to its end; returns (exit status, its stdout and stderr as one text)."""
        reader, writer = os.pipe()
        ours, theirs = socket.socketpair()
        with open(reader, errors="replace") as output, ours:
            with self.lock, theirs, open(writer, "wb"):
                if self.stopped:
                    return exit_status(-signal.SIGTERM), ""
                self.start()
                self.send(command, [writer, theirs.fileno()])
            text = output.read()
            status = ours.recv(16)
        if not status:  # who was to tell it was killed, and the kernel has ended the run
            return exit_status(-signal.SIGKILL), text + self.last_words()
        return int(status), text

    def start(self):
        """Start the process, if it isn't there."""
        if self.process and self.process.poll() is None:
            return
        self.close()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [*python("reproduce.warm_process"), str(theirs.fileno()), self.folder],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,  # nothing is written there, but Python is to see what a run has: a pipe
                stderr=subprocess.STDOUT,
                cwd=self.folder if home.INSTALLED else home.PROJECT,  # in its path, as train.py has it
                env=self.environment,
            )

    def send(self, message, descriptors=()):
        try:
            socket.send_fds(self.control, [json.dumps(message).encode()], descriptors)
        except ConnectionError:
            pass  # it was killed just now: the run counts as killed, too

    def last_words(self):
        """What a process that has ended said: the traceback of a bug, else nothing."""
        with self.lock:
            return self.process.stdout.read().decode(errors="replace") if self.process and self.process.poll() is not None else ""

    def stop(self):
        """End what runs and refuse what would start."""
        with self.lock:
            self.stopped = True
            if self.process:
                self.send("end all")

    def close(self):
        """End the process and what runs in it, at once."""
        if self.process:
            self.control.close()
            self.process.communicate()
            self.process = None


def starter(threads, folder=None, **environment):
    """What starts commands in a folder with this process' environment, and changes to it: a Background, on Linux a Warm.

    It is the one that the last call returned, if that was asked for the same; else that one ends, with all that it keeps.
    """
    global _kept
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), **environment)
    folder = str(folder or os.getcwd())
    if _kept is None or _kept.stopped or (_kept.environment, _kept.folder) != (environment, folder):
        if _kept is not None:
            atexit.unregister(_kept.close)
            _kept.close()
        _kept = (Warm if sys.platform == "linux" else Background)(environment, folder)
        atexit.register(_kept.close)
    return _kept
