"""The read-me's example of a method is a method: it trains as it stands there."""

import re
import sys
import types
from pathlib import Path

import torch

PROJECT = Path(__file__).parents[2]


def test_the_read_mes_method_trains(make_trainer, monkeypatch):
    text = (PROJECT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# trainers/suffix.py.*?)```", text, flags=re.DOTALL)
    module = types.ModuleType("trainers.suffix")
    module.__package__ = "trainers"
    monkeypatch.setitem(sys.modules, "trainers.suffix", module)
    exec(compile(code, "README.md", "exec"), module.__dict__)
    from dassl.engine import TRAINER_REGISTRY

    try:
        trainer = make_trainer("SuffixCoOp", "vit_b16", folder="CoOp")
        before = trainer.learner.ctx.detach().clone()
        trainer.train()
        assert not torch.equal(before, trainer.learner.ctx) and torch.isfinite(trainer.learner.ctx).all()
    finally:
        del TRAINER_REGISTRY._obj_map["SuffixCoOp"]
