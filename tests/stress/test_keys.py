"""Every key of the configuration against hostile values: nonsense is refused, what is accepted runs; never a traceback."""

import itertools
import json
import math

import pytest

import trainers
from dassl.config import check, get_cfg_default, keys_of
from dassl.config.schema import UNREAD
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from tests.stress import world

TEXTS = (
    "", " ", "none", "nan", "-nan", "inf", "-1", "0", "1.5", "1e999", "1" + 400 * "0", "1" + 5000 * "0", "1_0", "0x10", "True",
    "None", "[]", "()", "{}", "[[1]]", "(1,", "('a', 1)", "{1: 2}", "b'x'", "1j", "...", "x" * 5000, "\u202e", "'", "$(x)", "é",
)  # fmt: skip
VALUES = (None, [], {}, float("nan"), float("inf"), -float("inf"), 2**63, -(2**63), 10**400, True, (None,), ("\0",), "\0")


def configuration():
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    return cfg


KEYS = {name: known for name, known, _ in keys_of(configuration())}


def outcome(name, value):
    """ "refused" or "accepted"; anything but a UserError of one line comes through."""
    cfg = configuration()
    try:
        cfg.merge_from_list([name, value])
        check(cfg)
    except UserError as error:
        assert "\n" not in str(error) and name in str(error) and len(str(error)) < 1000
        return "refused"
    return "accepted"


def nonsense(known):
    """Values that no reading of a key's declaration allows."""
    wrong = {
        bool: ["2", "yes", "0", "[True]", 1, 0.0, None],
        int: ["1.5", "x", "[1]", True, None, 10**400, -(10**400), float("nan"), float("inf")],
        float: ["x", "[1]", True, None, 10**400, float("nan"), float("inf"), -float("inf")],
        str: [5, ["x"], True, "\0"],
    }[known.entry_kind]
    for limit, step in ((known.low, -1), (known.high, 1)):
        wrong += [limit + step] if limit is not None else []
    wrong += [limit for limit in (known.above, known.below) if limit is not None]
    wrong += ["no such choice"] if known.choices else []
    allowed = [value for value in wrong if any(type(value) is type(v) and value == v for v in known.also)]
    wrong = [value for value in wrong if value not in allowed]
    if known.is_sequence:
        usual = list(known.default) or [known.choices[0] if known.choices else 1 if known.entry_kind is int else "x"]
        wrong = [5, None, "x", {}, *([value, *usual[1:]] for value in wrong if not isinstance(value, list))]
        wrong += [usual[:-1], usual + usual[:1]] if known.length else []
    return wrong


def test_nonsense_is_refused():
    count = 0
    for name, known in KEYS.items():
        for value in nonsense(known):
            assert outcome(name, value) == "refused", (name, value)
            count += 1
    world.MESSAGES.append((f"{count} values outside a key's type, range or choices", "all refused"))


def test_any_text_is_refused_or_fits(stress):
    """What is accepted has the declared type."""
    for name, known in KEYS.items() if stress else itertools.islice(KEYS.items(), 0, None, 5):
        for value in (*TEXTS, *VALUES):
            if outcome(name, value) == "accepted":
                cfg = configuration()
                cfg.merge_from_list([name, value])
                found = dict((n, v) for n, _, v in keys_of(cfg))[name]
                entries = found if known.is_sequence else [found]
                fits = all(isinstance(entry, (known.entry_kind, int)) for entry in entries)
                assert fits or found in known.also, (name, value, found)


# What makes a run read the key, and values that would take the machine with them
COMPANIONS = {
    "OPTIM.MOMENTUM": ("OPTIM.NAME", "rmsprop"),
    "OPTIM.RMSPROP_ALPHA": ("OPTIM.NAME", "rmsprop"),
    "OPTIM.ADAM_BETA1": ("OPTIM.NAME", "adam"),
    "OPTIM.ADAM_BETA2": ("OPTIM.NAME", "amsgrad"),
    "OPTIM.STEPSIZE": ("OPTIM.LR_SCHEDULER", "multi_step"),
    "OPTIM.GAMMA": ("OPTIM.LR_SCHEDULER", "single_step"),
    "OPTIM.WARMUP_MIN_LR": ("OPTIM.WARMUP_TYPE", "linear"),
    "DATALOADER.TRAIN_X.N_DOMAIN": ("DATALOADER.TRAIN_X.SAMPLER", "RandomDomainSampler"),
    "DATALOADER.TRAIN_X.N_INS": ("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler"),
}
SECTIONS = trainers.readers()
# keys of which an allowed value takes hours, or that name the run itself
NOT_RUN = (
    "OUTPUT_DIR",
    "RESUME",
    "DATASET.ROOT",
    "TRAINER.NAME",
    "OPTIM.MAX_EPOCH",
    "DATALOADER.NUM_WORKERS",
    ".ITERS_PER_SHOT",
    ".VIEWS",
    ".AUGMENT_EPOCH",
)


def edges(known):
    """Allowed values at the ends of a key's range."""
    if known.choices:
        values = list(known.choices)
    elif known.entry_kind is bool:
        values = [True, False]
    elif known.entry_kind is str:
        values = ["x"]
    else:
        tiny = 1e-12 if known.entry_kind is float else 1
        high = known.high if known.high is not None else 2**31 - 1 if known.entry_kind is int else 1e30
        low = known.low if known.low is not None else known.above + tiny if known.above is not None else -high
        values = [low, known.below - tiny if known.below is not None else high]
    values = [[value] * (known.length or 1) for value in values] if known.is_sequence else values
    return [*values, *(value for value in known.also if not isinstance(value, bool))]


def method_of(name):
    """The method of ours that reads a key; CoOp where all do; None where none does."""
    section = ".".join(name.split(".")[:2])
    readers = [
        word
        for word in (KEYS[name].reader or SECTIONS.get(section, "")).split(", ")
        if word in TRAINER_REGISTRY.registered_names()
    ]
    if readers:
        return readers[0]
    return "CoOp" if not name.startswith("TRAINER.") or section == name else None


def pairs_for(name, known):
    """The KEY VALUE words with which a run reads the key."""
    transforms = [t for t in known.reader.split(", ") if t in KEYS["INPUT.TRANSFORMS"].choices]
    words = ["INPUT.TRANSFORMS", repr((*transforms, "normalize"))] if transforms else []
    return [*words, *COMPANIONS.get(name, ())]


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n, k in KEYS.items() if k.reader != UNREAD and not n.endswith(NOT_RUN) and method_of(n)])
def test_what_is_accepted_runs(name, data, tmp_path):
    known = KEYS[name]
    for number, value in enumerate(edges(known)):
        out = tmp_path / str(number)
        text = value if isinstance(value, str) else repr(value)
        argv = world.command(method_of(name), data, out, *pairs_for(name, known), "OPTIM.MAX_EPOCH", "2", name, text)
        process = world.Process(argv, tmp_path / f"log{number}")
        status, message = process.wait()
        assert status in (0, 2) and "Traceback" not in process.errors(), (name, value, status, process.errors()[-2000:])
        if status == 0 and (out / "results.json").is_file():
            accuracy = json.loads((out / "results.json").read_text())["metrics"]["accuracy"]
            assert math.isfinite(accuracy) and 0 <= accuracy <= 100
        else:
            assert status == 0 or message.startswith("error: "), (name, value, message)
