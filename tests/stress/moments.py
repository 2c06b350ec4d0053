"""Moments of a run: counted, or used to kill it there.

They are installed in the run's process by replacing functions; the program itself knows nothing of them.
"""

import json
import os
import signal
from pathlib import Path

NAMES = ("step", "test batch", "half a checkpoint", "before a rename", "after a rename", "half a cache entry",
         "clearing up")  # fmt: skip


def die():
    """As `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class Moments:
    """Calls ``act(name, n)`` at every moment; ``n`` counts those of one name from 1."""

    def __init__(self, act):
        self.act, self.counts, self.process = act, {}, os.getpid()
        self.install()

    def at(self, name):
        if os.getpid() != self.process:
            return  # a loading worker
        self.counts[name] = self.counts.get(name, 0) + 1
        self.act(name, self.counts[name])

    def before(self, owner, function, name):
        """Have the moment before every call of a function."""
        original = getattr(owner, function)

        def call(*args, **kwargs):
            self.at(name)
            return original(*args, **kwargs)

        setattr(owner, function, call)

    def install(self):
        import torch
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401  (replaced functions are not its own then)

        from basics import files
        from dassl.engine import checkpoint
        from dassl.evaluation import Classification
        from dassl.optim import eager
        from prompting import feature_cache

        self.before(eager.SGD, "step", "step")
        self.before(Classification, "process", "test batch")
        self.before(checkpoint.os, "rmdir", "clearing up")
        self.before(checkpoint.os, "unlink", "clearing up")
        self.around_rename(files)
        self.halfway(torch, "save", "half a checkpoint", lambda args: args[1])
        self.halfway(feature_cache, "write_rows", "half a cache entry", lambda args: args[0])

    def around_rename(self, module):
        """Have moments before and after every os.replace of a module."""
        original, moments = os.replace, self

        class Os:
            def __getattr__(self, name):
                return getattr(os, name)

            @staticmethod
            def replace(source, target):
                moments.at("before a rename")
                original(source, target)
                moments.at("after a rename")

        module.os = Os()

    def halfway(self, owner, function, name, target_of):
        """Have the moment when half of a file's bytes are written."""
        original = getattr(owner, function)

        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            target = target_of(args)
            if hasattr(target, "flush"):
                target.flush()
                at_end = target.tell()
                os.ftruncate(target.fileno(), at_end // 2)
                self.at(name)  # whoever dies here has written half
                target.seek(0)
                target.truncate()
                return original(*args, **kwargs)
            whole = Path(target).read_bytes()
            Path(target).write_bytes(whole[: len(whole) // 2])
            self.at(name)
            Path(target).write_bytes(whole)
            return result

        setattr(owner, function, call)


def count(file):
    """Write {name: how many} to a file as the run goes on."""
    counts = {}

    def act(name, n):
        counts[name] = n
        Path(file).write_text(json.dumps(counts))

    Moments(act)


def kill_at(name, number):
    """Kill the run at the ``number``-th moment of this name."""
    Moments(lambda what, n: die() if (what, n) == (name, number) else None)
