"""Which of several processes of a torchrun job this one is, from the environment alone."""

import os


def in_parallel() -> bool:
    """Whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ


def is_first() -> bool:
    """Whether this is the only or the first process of the run: the one that prints and writes."""
    return not in_parallel() or os.environ["RANK"] == "0"
