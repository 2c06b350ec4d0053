"""Starting train.py: in the foreground, or as one of several at a time with its output kept for the case of failure."""

import os
import signal
import subprocess
import sys
import threading

from basics import home


def python(program):
    """Words that start one of our programs, ``train`` or a module such as ``reproduce.route``, as a process of its own."""
    file = home.PROJECT / f"{program}.py"
    return [sys.executable, str(file)] if file.is_file() else [sys.executable, "-m", home.qualified(program)]


def exit_status(returncode):
    """A shell's exit status for a process: 128 + n if signal n ended it."""
    return 128 - returncode if returncode < 0 else returncode


def foreground(command):
    """Run `command` on this terminal and return its exit status.

    SIGTERM is passed on to it. Ctrl-C reaches it from the terminal by itself, so here it is only not to end the wait.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return exit_status(process.wait())
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


class Background:
    """Processes that can all be stopped at once.

    Args:
        environment, folder: of all of them.
    """

    def __init__(self, environment, folder):
        self.environment, self.folder = environment, folder
        self.lock = threading.Lock()
        self.live = set()
        self.stopped = False

    def run(self, command):
        """Run `command` to its end; returns (exit status, its stdout and stderr as one text)."""
        with self.lock:
            if self.stopped:
                return exit_status(-signal.SIGTERM), ""
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self.environment,
                cwd=self.folder,
            )
            self.live.add(process)
        output, _ = process.communicate()
        with self.lock:
            self.live.discard(process)
        return exit_status(process.returncode), output

    def stop(self):
        """End what runs and refuse what would start."""
        with self.lock:
            self.stopped = True
            for process in self.live:
                process.terminate()

    def close(self):
        """Let go of what is kept for later commands: nothing."""


def available_cores():
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
