"""Inputs that are almost right, and the rule that each is read or refused with a message."""

import io
import json
import random
import signal
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from hypothesis import strategies as st

from basics import UserError, printable

LONGEST = 20  # seconds for one input
PUBLISHED = Path(__file__).parents[1] / "golden" / "published"
COUNTS = {}  # what: [inputs, refused]


@contextmanager
def refused_or_read(what):
    """Nothing but an error for users may come of an input, with a message that a terminal can show, and soon."""

    def hangs(number, frame):
        raise AssertionError("hangs")

    count = COUNTS.setdefault(what, [0, 0])
    count[0] += 1
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LONGEST)
    try:
        with redirect_stdout(io.StringIO()) as printed:
            yield
        assert printable(printed.getvalue()) == printed.getvalue(), "control characters on the terminal"
    except UserError as error:
        count[1] += 1
        assert str(error).strip() and printable(str(error)) == str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def changed(whole):
    """Bytes of a file with some changed, cut out or doubled."""

    def change(seed):
        rng, data = random.Random(seed), bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            at, length = rng.randrange(len(data) or 1), rng.randint(1, 40)
            data[at:at + length] = rng.choice([bytes([rng.randrange(256)]), b"", data[at:at + length] * 2,
                                               rng.randbytes(length)])  # fmt: skip
        return bytes(data)

    return st.integers(0, 2**32).map(change)


NASTY = st.sampled_from([
    "\x1b[31m", "\x1b]0;x\x07", "\u202e", "\ud800", "<script>", "{}", "{", "#", "..", "/", "\0", "é", "9" * 5000,
    "[" * 3000, "(" * 3000, "-" * 3000, "1e999", "nan", "!!python/name:os.system",
])  # fmt: skip
WORDS = st.lists(st.one_of(st.text(max_size=8), NASTY), max_size=4).map("".join)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(0, 3), st.floats(), WORDS)


def nested(values):
    """Lists and dictionaries of values."""
    return st.lists(values, max_size=4) | st.dictionaries(WORDS, values, max_size=4)


VALUES = st.recursive(SCALARS, nested, max_leaves=12)


def as_json(value):
    """Bytes of a value as JSON; a surrogate stays the escape that it was."""
    return json.dumps(value).encode()
