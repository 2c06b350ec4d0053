"""What a search varies: the file configs/tune/<method>.yaml, a method's declared keys, or what the command line names."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from basics import UserError, home
from reproduce.facts import choices

EXPERTS = "experts"
TEMPLATES = "TRAINER.MOCOOP.TEMPLATES"
FACTOR = 4.0  # derived ranges go from the recipe's value / FACTOR to its FACTOR-fold
DIGITS = 3  # significant ones of a searched number: what a folder's name shows is what was run


@dataclass(frozen=True)
class Dimension:
    """A key and what it may be: one of `values` (words of a command line), or a number from `low` to `high` on a log scale."""

    key: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def distribution(self):
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return CategoricalDistribution(self.values) if self.values else FloatDistribution(self.low, self.high, log=True)

    def word(self, value):
        """A value of the distribution as a word of a command line."""
        return str(value) if self.values else f"{float(value):.{DIGITS}g}"

    def nearest(self, value):
        """The value of the distribution that stands for the recipe's; None where it isn't one of them."""
        if not self.values:
            return float(value) if self.low <= float(value) <= self.high else None
        same = [word for word in self.values if word == str(value) or _number(word) == _number(value) is not None]
        return same[0] if same else None

    def plain(self):
        """For JSON."""
        return {"values": list(self.values)} if self.values else {"low": self.low, "high": self.high}


def _number(word):
    try:
        return float(word)
    except (TypeError, ValueError):
        return None


def space(trainer, dataset, cfg, words=()):
    """[Dimension] of a search: those of `words` (KEY=A,B,C or KEY=LOW..HIGH) or, without any, of the method's file or keys.

    Args:
        cfg: the recipe's whole configuration, with the declarations of its keys.
    """
    if words:
        return [_of_word(word, dataset, cfg) for word in words]
    file = home.find(f"configs/tune/{trainer}.yaml")
    if not file.is_file():
        return derived(trainer, cfg)
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = [_of_entry(key, entry, dataset, cfg, file) for key, entry in entries.items()]
    return [dimension for dimension in found if dimension is not None]


def _of_entry(key, entry, dataset, cfg, file):
    if not isinstance(entry, dict) or entry.keys() not in ({"values"}, {"low", "high"}, {"times"}):
        raise UserError(f"{file}: {key} needs values, or low and high, or times")
    if key == EXPERTS:
        words = tuple(map(str, entry["values"]))
        there = tuple(word for word in words if word == "own" or home.find(_experts_file(dataset, word)).is_file())
        return Dimension(EXPERTS, there) if len(there) > 1 else None
    value = value_of(cfg, key)
    if "values" in entry:
        return Dimension(key, tuple(map(str, entry["values"])))
    low, high = (entry["low"], entry["high"]) if "low" in entry else (value * factor for factor in entry["times"])
    return Dimension(key, (), float(low), float(high))


def _of_word(word, dataset, cfg):
    key, equals, text = word.partition("=")
    if not equals or not text:
        raise UserError(f"--key {word}: write KEY=A,B,C for these values, or KEY=LOW..HIGH for numbers on a log scale")
    if key != EXPERTS:
        value_of(cfg, key)
    if match := re.fullmatch(r"([^.,]+(?:\.\d+)?)\.\.(.+)", text):
        low, high = map(_number, match.groups())
        if low is None or high is None or not 0 < low < high:
            raise UserError(f"--key {word}: LOW..HIGH must be numbers, 0 < LOW < HIGH")
        return Dimension(key, (), low, high)
    values = tuple(dict.fromkeys(filter(None, text.split(","))))
    if key == EXPERTS:
        for value in values:
            if value != "own" and not home.find(_experts_file(dataset, value)).is_file():
                raise UserError(f"--key {word}: {home.find(_experts_file(dataset, value))} doesn't exist")
    return Dimension(key, values)


def _experts_file(dataset, count):
    return f"templates/experts/{dataset}_{count}.txt"


def value_of(cfg, key):
    """The value of a dotted key; UserError where there is no such key."""
    from dassl.config import keys_of

    known = {name: value for name, _, value in keys_of(cfg)}
    if key not in known:
        raise UserError(f"unknown key {key}{choices(key, sorted(known)).partition('; there are')[0]}")
    return known[key]


def derived(trainer, cfg):
    """Of a method without a file: the learning rate, and the numbers that it reads and that aren't 0, around their values."""
    from dassl.config import keys_of
    from dassl.engine import TRAINER_REGISTRY

    section = f"TRAINER.{getattr(TRAINER_REGISTRY.get(trainer), 'section', trainer.upper())}."
    values = {name: value for name, _, value in keys_of(cfg)}
    idle = {section + "N_CTX"} if values.get(section + "CTX_INIT") else set()  # words say how many vectors there are
    found = []
    for name, known, value in keys_of(cfg):
        own = trainer in known.reader.split(", ") if known.reader else name.startswith(section)
        if (own or name == "OPTIM.LR") and not known.choices and not known.is_sequence and name not in idle:
            dimension = None if name.endswith("SEED") else _around(name, known, value)
            found += [dimension] if dimension else []
    return found


def _around(name, known, value):
    if known.entry_kind is float and isinstance(value, float) and value > 0:
        low, high = value / FACTOR, value * FACTOR
        low = max([low, *(limit for limit in (known.low, known.above) if limit)])
        high = min([high, *(limit for limit in (known.high, known.below) if limit)])
        return Dimension(name, (), low, high) if low < high and not known.complaint(low) and not known.complaint(high) else None
    if known.entry_kind is int and not isinstance(value, bool) and isinstance(value, int) and value >= 1:
        values = [v for v in dict.fromkeys((max(1, value // 2), value, 2 * value)) if not known.complaint(v)]
        return Dimension(name, tuple(map(str, values))) if len(values) > 1 else None
    return None


def settings(dimensions, params, dataset):
    """Flat KEY, VALUE words of a trial's parameters {key: value}."""
    found = []
    for dimension in dimensions:
        word = dimension.word(params[dimension.key])
        if dimension.key != EXPERTS:
            found += [dimension.key, word]
        elif word != "own":
            found += [TEMPLATES, _experts_file(dataset, word)]
    return tuple(found)


def of_recipe(dimensions, cfg):
    """{key: value} of the recipe itself, without those that the search doesn't have among its values."""
    values = {d.key: "own" if d.key == EXPERTS else d.nearest(value_of(cfg, d.key)) for d in dimensions}
    return {key: value for key, value in values.items() if value is not None}
