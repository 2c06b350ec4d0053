"""A call of ours in somebody's program: what it changes in the process is put back, what a user can mend is a UserError."""

import contextlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from basics import UserError, home
from basics.program import EXIT_USER_ERROR, explain


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A block after which random states, standard output, warnings and the level of logging are as they were.

    Raises:
        UserError: also in place of errors that the command lines explain in a line, such as a full disk.
    """
    check_names()
    import numpy
    import torch

    from dassl.utils import Logger, get_rng_state, set_rng_state

    assert numpy and torch
    stdout, level, random_states = sys.stdout, logging.getLogger().level, get_rng_state()
    try:
        with warnings.catch_warnings():
            yield
    except UserError as error:
        _note(f"error: {error}")
        raise
    except Exception as error:
        status, message = explain(error) or (0, "")
        if status != EXIT_USER_ERROR:
            raise
        _note(message)
        raise UserError(message.removeprefix("error: ")) from error
    finally:
        if isinstance(sys.stdout, Logger) and sys.stdout is not stdout:
            sys.stdout.close()  # the log; what it copies from stays open
        sys.stdout = stdout
        logging.getLogger().setLevel(level)
        set_rng_state(random_states)


def _note(message):
    """Write what a run ended with into its log, as the command line does."""
    log = getattr(sys.stdout, "file", None)
    if log is not None:
        with contextlib.suppress(OSError):
            log.write(message + "\n")


def check_names() -> None:
    """UserError where a name of our packages means another package: in a checkout they are top-level ones."""
    if home.INSTALLED:
        return
    for name in ("datasets", "trainers"):
        module = sys.modules.get(name)
        spec = module.__spec__ if module else importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin and not Path(origin).is_relative_to(home.PROJECT):
            raise UserError(
                f"`import {name}` means {origin} here, and not this project's checkout in {home.PROJECT}: install the project "
                f"as a package (pip install {home.PROJECT}), in which everything lies below `mocoop`"
            )
