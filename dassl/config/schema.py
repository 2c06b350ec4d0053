"""What a key of the configuration is: its default, type, range, choices, meaning and reader, declared once.

    cfg.TRAINER.COOP = section(
        N_CTX=key(16, "number of context vectors", low=1),
        PREC=key("fp16", "precision", choices=("fp16", "fp32")),
    )

The values in the tree stay plain, so files written for yacs work on it. The checks, the error messages and the reference
page come from the declaration. Sections made with yacs have no declaration; their values are checked for their type only.
"""

import math
from dataclasses import dataclass, field

LARGEST = 2**31 - 1  # of whole numbers without an upper limit of their own
KINDS = {  # type: (one of it, several)
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("True or False", "of True or False"),
}
UNREAD = "nothing here"  # the reader of a key that is accepted because files for Dassl have it


@dataclass(frozen=True, eq=False)
class Key:
    """A declared key.

    Attributes:
        default: the value; a tuple or list makes a key whose value is a sequence, and the limits are its entries'.
        meaning: what it is, in a few words, with its unit.
        low, high, above, below: limits of a number, inclusive and exclusive.
        choices: the values that it may have; empty: any.
        also: values that it may have beside those, as {value: meaning}.
        length: number of entries of a sequence; None: any.
        kind: type of the value, or of a sequence's entries; by default that of the default.
        check: function value -> what is wrong with it, or ""; for what limits and choices can't say.
        reader: who reads the value, where the section doesn't say it.
        binds: what is learned with one value means nothing with another.
    """

    default: object
    meaning: str
    low: float = None
    high: float = None
    above: float = None
    below: float = None
    choices: tuple = ()
    also: dict = field(default_factory=dict)
    length: int = None
    kind: type = None
    check: object = None
    reader: str = ""
    binds: bool = False

    def __deepcopy__(self, memo):
        return self

    @property
    def is_sequence(self):
        """Whether the value is a tuple or list."""
        return isinstance(self.default, (tuple, list))

    @property
    def entry_kind(self):
        """Type of the value, or of its entries."""
        if self.kind is not None:
            return self.kind
        return type(self.default[0] if self.is_sequence else self.default)

    def complaint(self, value):
        """What is wrong with ``value``: "must be …", or "" where nothing is."""
        if any(type(value) is type(other) and value == other for other in self.also):
            return ""
        entries = [value]
        if self.is_sequence:
            if not isinstance(value, (tuple, list)) or self.length not in (None, len(value)):
                return f"must be {self.range}"
            entries = value
        if not all(self._is_allowed(entry) for entry in entries):
            return f"must be {self.range}"
        if any(isinstance(entry, str) and "\0" in entry for entry in entries):
            return "must have no NUL character in it"
        return self.check(value) if self.check else ""

    def _is_allowed(self, value):
        kind = self.entry_kind
        if isinstance(value, bool) is not (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
            return False
        if self.choices and value not in self.choices:
            return False
        if kind in (str, bool):
            return True
        if kind is float and not _is_finite(value):
            return False
        if kind is int and abs(value) > LARGEST and self.high is None:
            return False
        at_least, at_most = self.low is None or value >= self.low, self.high is None or value <= self.high
        return at_least and at_most and (self.above is None or value > self.above) and (self.below is None or value < self.below)

    @property
    def range(self):
        """The allowed values in words, such as "a number above 0 and at most 1"."""
        one, many = KINDS[self.entry_kind]
        limits = [self._limits()] if self._limits() else []
        if self.is_sequence:
            text = f"{'a list of' if self.length is None else self.length} {many}"
            text = ", each ".join([text, *limits, *([self._choices()] if self.choices else [])])
        else:
            text = self._choices() if self.choices else " ".join([one, *limits])
        return ", or ".join([text, *(f"{shown(value)} ({meaning})" for value, meaning in self.also.items())])

    def _choices(self):
        return f"one of {', '.join(map(str, self.choices))}"

    def _limits(self):
        if self.low is not None and self.high is not None:
            return f"from {_plain(self.low)} to {_plain(self.high)}"
        limits = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{words} {_plain(limit)}" for words, limit in limits.items() if limit is not None)


def key(default, meaning, **details):
    """Declare a key: ``cfg.SECTION.NAME = key(16, "context vectors", low=1)``, or as an argument of ``section``.

    ``details``: what ``Key`` has beside ``default`` and ``meaning``.
    """
    return Key(default, meaning, **details)


def declared(node, name):
    """The ``Key`` of an entry of a section; None where it has none."""
    return getattr(node, "__dict__", {}).get("__keys__", {}).get(name)


def keys_of(node, prefix=""):
    """Yield (dotted name, Key, value) for every declared key below a section."""
    for name, value in node.items():
        if declared(node, name):
            yield f"{prefix}{name}", declared(node, name), value
        elif isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")


def binding_keys(cfg, section=""):
    """Dotted names of the keys that what a method has learned depends on; ``section``: its part of cfg.TRAINER."""
    own = f"TRAINER.{section}."
    return {name for name, known, _ in keys_of(cfg) if known.binds and (not name.startswith("TRAINER.") or name.startswith(own))}


def shown(value):
    """A value as it stands in a message: short, texts in quotation marks."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text):,} characters)"


def _plain(number):
    return str(number) if isinstance(number, int) else f"{number:g}"


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
