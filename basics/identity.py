"""What decides the numbers of a run: two runs with the same identity have the same numbers, others must not share a folder.

An identity is {name: value}: the settings that decide, by their dotted keys, and what the run was made from (hashes of the
data split, of the few-shot sample, of the weights). The settings that do not decide are listed here, and nowhere else.
"""

import ast
import re
from pathlib import Path

import yaml

from . import home

NOT_DECIDING = {  # setting: why another value of it leaves the numbers as they are
    "OUTPUT_DIR": "where the files of the run lie",
    "RESUME": "where it resumes from: the checkpoint carries an identity of its own",
    "DATASET.ROOT": "where the images lie; the images themselves are compared",
    "MODEL.BACKBONE.PATH": "where the weights lie; the weights themselves are compared",
    "MODEL.INIT_WEIGHTS": "where initial weights lie; the file itself is compared",
    "TRAINER.MOCOOP.TEMPLATES": "where the template groups lie; the groups themselves are compared",
    "INPUT.PREPROCESS": "whose values are taken; the values themselves are compared",
    "USE_CUDA": "the device; what it computes in (float16, float32) is compared",
    "VERBOSE": "what is printed",
    "TRAIN.PRINT_FREQ": "what is printed",
    "TRAIN.CHECKPOINT_FREQ": "which checkpoints are kept",
    "TRAIN.LOGGERS": "where numbers go, too",
    "TEST.PER_CLASS_RESULT": "what is printed",
    "TEST.COMPUTE_CMAT": "writes one more file",
    "TEST.SAVE_PREDICTIONS": "writes one more file",
    "TEST.TOP_K": "reports more of the same scores",
    "DATALOADER.NUM_WORKERS": "speed: order and augmentation are a function of seed, epoch and sample",
    "DATALOADER.DECODED_MB": "memory",
    "DATALOADER.TEST.BATCH_SIZE": "memory: scores are equal but for rounding",
    "TRAINER.CHECKPOINTING": "memory: what isn't kept is computed again",
    "TRAINER.FEATURE_CACHE": "speed: kept features are the computed ones, bit for bit",
    "TRAINER.FEATURE_CACHE_GB": "disk space",
    "TRAINER.CACHE_VIEWS": "speed: kept features are the computed ones, bit for bit",
}
FILES = ("MODEL.INIT_WEIGHTS", "TRAINER.MOCOOP.TEMPLATES")  # of those: paths of files whose contents decide
EPOCHS = "OPTIM.MAX_EPOCH"
LATER = {  # a setting of old: {settings that came later beside it: their only value until then}
    "INPUT.SIZE": {"INPUT.RESIZE_MODE": "shortest", "DATASET.HELD_OUT": 0},
    "DATASET.NAME": {"DATASET.TEMPLATE": "", "DATASET.NESTED": False, "DATASET.MULTI_LABEL": False, "TEST.CALIBRATE": False},
    "TRAINER.MOCOOP.TOP_K": {
        "TRAINER.MOCOOP.ROUTER_TAU": 1, "TRAINER.MOCOOP.ROUTER_CENTRE": False, "TRAINER.MOCOOP.ROUTER_HIDDEN": 0,
        "TRAINER.MOCOOP.BALANCE_LOSS": "none", "TRAINER.MOCOOP.TEXT_EXPERTS": 0,
    },
}  # fmt: skip
SHOWN = 20  # differences that a message names

_HEADER = re.compile(r"^\*+\n\*\* Config \*\*\n\*+\n(.*?)^(?:\d+ processes share|Collecting env info)", re.MULTILINE | re.DOTALL)
_FIRST_EPOCH = re.compile(r"^epoch \[1/", re.MULTILINE)


def flatten(config, prefix=""):
    """{dotted key: plain value} of a configuration, or of the nested dictionary that JSON or YAML made of one."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = _plain(value)
    return flat


def completed(identity):
    """An identity with the settings that were not there when it was recorded: their only value then."""
    later = {name: value for old, values in LATER.items() if old in identity for name, value in values.items()}
    return {**later, **identity}


def deciding(config):
    """{dotted key: plain value} of the settings that decide the numbers of a run."""
    settings = completed({key: value for key, value in flatten(config).items() if key not in NOT_DECIDING})
    name = settings.get("MODEL.BACKBONE.NAME")
    if isinstance(name, str):
        places = [root / name.removeprefix("local-dir:") for root in (Path(), home.PROJECT)]
        if any((folder / file).is_file() for folder in places for file in ("", "open_clip_config.json", "config.json")):
            settings["MODEL.BACKBONE.NAME"] = places[0].name  # a path; the model in it is compared itself
    return settings


def _plain(value):
    """``value`` as JSON gives it back; numbers that are equal, and texts of sequences, compare equal."""
    if isinstance(value, str) and value[:1] in "([" and value[-1:] in ")]":
        try:
            value = ast.literal_eval(value)  # how a log prints a tuple
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def differences(old, new):
    """[(name, old value, new value)] of the entries in which two identities differ.

    An entry that only one of them has is no difference: a key may have been added or removed since.
    """
    return [(name, value, new[name]) for name, value in old.items() if name in new and not _same(value, new[name])]


def _same(old, new):
    """Whether two values mean the same; a log writes an empty text as nothing, None and a number as any text."""
    return old == new or _as_printed(old) == _as_printed(new)


def _as_printed(value):
    return "" if value in (None, "None") else str(value)


def describe(found):
    """Text of ``differences``: each name with its two values."""
    parts = [f"{name} {_short(old)} (now {_short(new)})" for name, old, new in found[:SHOWN]]
    if len(found) > SHOWN:
        parts.append(f"and {len(found) - SHOWN} more")
    return ", ".join(parts)


def _short(value):
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1…", text)  # a hash
    if not text:
        return '""'
    return text if len(text) <= 120 else text[:117] + "…"


def settings_in_log(text):
    """The deciding settings that a log names for the training that it shows, {} where it shows none.

    Several commands may have written to one log; the training belongs to the last one that began with epoch 1.
    """
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    began = [h for h, end in zip(headers, ends) if _FIRST_EPOCH.search(text, h.end(), end)]
    for header in (began or headers)[-1:]:
        try:
            config = yaml.safe_load(header[1])
        except yaml.YAMLError:
            return {}
        return deciding(config) if isinstance(config, dict) else {}
    return {}
