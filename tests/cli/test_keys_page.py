"""The page of all keys is made from their declarations, and is current; keys that a run doesn't read are named."""

import pathlib
import subprocess
import sys

import train
from dassl.config import get_cfg_default, remarks
from trainers import extend_cfg, readers

PROJECT = pathlib.Path(train.__file__).parent


def test_page_is_current():
    """In a process of its own: other tests register methods. `python train.py --keys > docs/keys.md` makes it anew."""
    made = subprocess.run([sys.executable, "train.py", "--keys"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert made == (PROJECT / "docs" / "keys.md").read_text()


def test_some_keys(capsys):
    assert train.main(["--keys", "warmup_cons"]) == 0
    line = "- `OPTIM.WARMUP_CONS_LR` = 1e-05: learning rate of a constant warm-up. A number above 0 and at most 1000.\n"
    assert capsys.readouterr().out == line
    assert train.main(["--keys", "no such thing"]) == 2


def test_keys_that_are_not_read():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_list(
        ["TRAINER.NAME", "MoCoOp", "TRAINER.COOP.W", "3", "DATASET.VAL_PERCENT", "0.2", "TRAINER.MOCOOP.TOP_K", "1"]
    )
    said = remarks(cfg, readers())
    assert said == [
        "Note: DATASET.VAL_PERCENT 0.2 has no effect on MoCoOp: read by nothing here",
        "Note: TRAINER.COOP.W 3.0 has no effect on MoCoOp: read by KgCoOp",
    ]
    cfg.TRAINER.NAME = "MethodOfOthers"
    assert len(remarks(cfg, readers())) == 1
