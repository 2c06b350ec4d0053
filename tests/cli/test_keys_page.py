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
    line = "- `OPTIM.WARMUP_CONS_LR` = 1e-05: learning rate of a constant warm-up. A number above 0 and at most 100.\n"
    assert capsys.readouterr().out == line
    assert train.main(["--keys", "no such thing"]) == 2


def test_keys_that_are_not_read():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    pairs = {"TRAINER.NAME": "MoCoOp", "TRAINER.COOP.W": 3.0, "TRAINER.MOCOOP.TOP_K": 1, "DATASET.VAL_PERCENT": 0.2,
             "INPUT.CUTOUT_N": 2, "INPUT.GB_P": 0.1, "INPUT.TRANSFORMS": ("gaussian_blur", "normalize"), "OPTIM.NAME": "sgd",
             "OPTIM.ADAM_BETA1": 0.5, "OPTIM.MOMENTUM": 0.5, "MODEL.HEAD.NAME": "mlp"}  # fmt: skip
    cfg.merge_from_list([word for pair in pairs.items() for word in pair])
    said = remarks(cfg, readers())
    idle = ["INPUT.CUTOUT_N", "DATASET.VAL_PERCENT", "MODEL.HEAD.NAME", "OPTIM.ADAM_BETA1", "TRAINER.COOP.W"]
    assert [line.split()[1] for line in said] == idle
    assert said[0] == "Note: INPUT.CUTOUT_N 2 has no effect here: it is read by cutout"
    cfg.TRAINER.NAME = "MethodOfOthers"
    assert [line.split()[1] for line in remarks(cfg, readers())] == ["INPUT.CUTOUT_N", "DATASET.VAL_PERCENT", "OPTIM.ADAM_BETA1"]
