"""What befalls a run in the tests, called in its process: a signal or an action at a moment, another clock, a limit."""

import multiprocessing
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from tests.stress.moments import Moments


def _at(name, number, action):
    Moments(lambda what, n: action() if (what, n) == (name, number) else None)


def signal_at(name, number, which):
    """Send this process a signal."""
    _at(name, number, lambda: os.kill(os.getpid(), which))


def stop_at(name, number):
    """Stand still until SIGCONT comes."""
    signal_at(name, number, signal.SIGSTOP)


def fill_at(name, number, folder):
    """Leave no room on the disk of a folder."""

    def fill():
        with open(Path(folder) / "filler", "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass

    _at(name, number, fill)


def limit_at(name, number, size):
    """Let no file grow beyond ``size`` bytes from now on."""
    _at(name, number, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)))


def read_only_at(name, number, disk):
    """Make a file system read-only, as the kernel does after an error of the disk."""
    # files that are open for writing keep a remount from happening; a read-only mount over it does not mind them
    _at(name, number, lambda: subprocess.run(["mount", "--bind", "-o", "ro", disk, disk], check=True))


def damage_at(name, number, files, size):
    """Cut files off after ``size`` bytes; with -1, remove them."""

    def damage():
        for file in files:
            whole = Path(file).read_bytes()
            os.unlink(file)  # the file may be linked from elsewhere
            if size >= 0:
                Path(file).write_bytes(whole[:size])

    _at(name, number, damage)


def kill_workers_at(name, number):
    """Kill the loading workers, as the system does when memory runs out."""

    def kill():
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    _at(name, number, kill)


def step_too_far(number):
    """Let the optimiser's steps, from this one on, be as long as no setting allows."""
    from dassl.optim import eager

    original, calls = eager.SGD.step, [0]

    def step(self, *args, **kwargs):
        calls[0] += 1
        if calls[0] >= number:
            for group in self.param_groups:
                group["lr"] = 1e37
        return original(self, *args, **kwargs)

    eager.SGD.step = step


def clock_jumps(seconds):
    """Let the wall clock jump by so many seconds, forth and back, whenever it is looked at."""
    original, looks = time.time, [0]

    def jumping():
        looks[0] += 1
        return original() + (seconds if looks[0] % 3 else 0)

    time.time = jumping
