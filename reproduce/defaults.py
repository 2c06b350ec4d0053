"""Defaults of the methods' keys as data, so that what a run's settings should be is known without loading torch.

python -m reproduce.defaults     # writes defaults.json anew, after a method's keys have changed (a test compares)
"""

import json
import sys
from pathlib import Path
from typing import Any

from basics import program, write_text
from basics.identity import flatten
from dassl.config import get_cfg_default, known

FILE = Path(__file__).with_name("defaults.json")


def added(extend: Any) -> dict[str, Any]:
    """What a function such as ``trainers.extend_cfg`` adds to the engine's defaults, as nested plain values."""
    cfg = get_cfg_default()
    engine = plain(cfg)
    extend(cfg)
    return without(plain(cfg), engine)


def plain(node: Any) -> Any:
    return {key: plain(value) for key, value in node.items()} if isinstance(node, dict) else node


def without(whole: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The entries of nested dictionaries that ``known`` doesn't have."""
    rest = {key: without(value, known[key]) if key in known else value for key, value in whole.items() if isinstance(value, dict)}
    values = {key: value for key, value in whole.items() if not isinstance(value, dict) and key not in known}
    return {key: value for key, value in (rest | values).items() if value != {} or key not in known}


def read() -> dict[str, Any]:
    """{"methods": names of the registered methods, "keys": nested defaults, "ranges": {dotted key: what it may be},
    "declarations": hash of what declares them}"""
    return json.loads(FILE.read_text(encoding="utf-8"))


def extend_cfg(cfg: Any) -> None:
    """Add the methods' keys to a default configuration, without the checks that their declarations have."""
    known.add_keys(cfg, read()["keys"])


def current() -> dict[str, Any]:
    """What ``read`` gives once the file is written anew."""
    import trainers
    from dassl.engine import TRAINER_REGISTRY

    methods, keys = sorted(TRAINER_REGISTRY.registered_names()), added(trainers.extend_cfg)
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    ranges = json.loads(json.dumps(known.ranges_of(cfg, flatten(keys))))
    return {"declarations": known.declarations(), "methods": methods, "keys": keys, "ranges": ranges}


def write() -> None:
    """Write defaults.json anew."""
    write_text(json.dumps(current(), indent=1) + "\n", FILE)


if __name__ == "__main__":
    sys.exit(program.as_process(write))
