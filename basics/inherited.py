"""What a process that forks runs keeps for them: the latest thing that two runs in a row have made, such as a backbone's weights.

A run makes such a thing with ``get``, and so reports it. Before its next fork the process makes it, too, and later runs find it
in their memory. It is let go of when two runs in a row have made another one. A run that isn't a fork makes all itself.
"""

import contextlib
import importlib
import json
import os
from collections.abc import Callable
from typing import Any

MOST = 4096  # bytes of a report: a pipe takes so many at once, or none (PIPE_BUF)
_thing: list[Any] = []  # [key, thing], or nothing
_report: int | None = None  # in a fork: the descriptor that it reports to


def get(make: Callable[..., Any], *arguments: Any) -> tuple[Any, bool]:
    """``make(*arguments)``, and whether it was inherited: then it is the process' own from now on, and isn't given away again.

    Args:
        make: a function of a module, that draws no random numbers of which anything depends, and prints nothing.
        arguments: JSON data, of which the result is a function.
    """
    key = json.dumps([make.__module__, make.__qualname__, arguments], sort_keys=True)
    if _report is not None and len(key) < MOST:
        with contextlib.suppress(BlockingIOError):  # a pipe is full that is emptied before the next fork
            os.write(_report, key.encode() + b"\n")
    if _thing and _thing[0] == key:
        thing = _thing[1]
        _thing.clear()
        return thing, True
    return make(*arguments), False


def report_to(descriptor: int) -> None:
    """In a fork: report what is made to the process that forked it."""
    global _report
    _report = descriptor


class Reports:
    """In the process that forks: what its forks have made. Attribute ``descriptor``: where they report."""

    def __init__(self):
        self._reader, self.descriptor = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.descriptor, False)
        self._latest = []  # the last two keys

    def wanted(self) -> str | None:
        """The key of what the last two runs have made, unless it is there."""
        with contextlib.suppress(BlockingIOError):
            while text := os.read(self._reader, 1 << 16):
                self._latest = [*self._latest, *text.decode().splitlines()][-2:]
        twice = len(self._latest) == 2 and self._latest[0] == self._latest[1]
        return self._latest[0] if twice and (not _thing or _thing[0] != self._latest[0]) else None

    def make(self, key: str) -> None:
        """Make what is wanted, after letting go of what was there. Raises what making it raises."""
        _thing.clear()
        self._latest = []  # where it can't be made it isn't tried again for each run
        module, name, arguments = json.loads(key)
        thing = getattr(importlib.import_module(module), name)(*arguments)
        _thing.extend([key, thing])
