"""Methods train on text towers of other families than CLIP, their files unchanged; what they can't do is refused by name."""

import json

import pytest
import torch

from basics import UserError
from tests.prompting import towers


@pytest.fixture(params=["SigLIP", "CoCa", "RoBERTa"])
def model(request, monkeypatch, tmp_path):
    if request.param == "RoBERTa":
        return towers.hugging_face_folder(tmp_path)[0]
    towers.stand_in(monkeypatch, lambda name: towers.Words())
    return towers.folder_of(request.param, tmp_path / "model")[0]


METHODS = {"CoOp": "vit_b16_ctxv1", "MoCoOp": "vit_b16", "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1"}


@pytest.mark.parametrize("method", METHODS)
def test_methods_on_learned_words(method, model, make_trainer, tmp_path):
    fewer = ("TRAINER.MOCOOP.TUNE_LAYERNORM", False, "TRAINER.MOCOOP.PREC", "fp32") if method == "MoCoOp" else ()
    make = lambda out: make_trainer(  # noqa: E731
        method, METHODS[method], "MODEL.BACKBONE.NAME", model, "MODEL.BACKBONE.PATH", "", *fewer, out=out
    )
    trainer = make("run")
    before = {name: p.detach().clone() for name, p in trainer.learner.named_parameters()}
    trainer.train()
    assert any(not torch.equal(p, before[name]) for name, p in trainer.learner.named_parameters())
    assert "ctx" in before and not torch.equal(trainer.learner.ctx, before["ctx"])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    again = make("again")
    again.evaluate(str(tmp_path / "run"))
    assert json.loads((tmp_path / "again" / "results.json").read_text())["metrics"] == results["metrics"]


def test_mocoops_meta_net(model, make_trainer):
    pairs = (
        "MODEL.BACKBONE.NAME",
        model,
        "MODEL.BACKBONE.PATH",
        "",
        "TRAINER.MOCOOP.META_NET",
        True,
        "TRAINER.MOCOOP.PREC",
        "fp32",
    )
    trainer = make_trainer("MoCoOp", "vit_b16", *pairs, "OPTIM.MAX_EPOCH", 1)
    before = trainer.learner.meta_net.linear2.weight.detach().clone()
    trainer.train()
    assert not torch.equal(trainer.learner.meta_net.linear2.weight, before)


def test_what_enters_layers_is_refused(model, make_trainer):
    pairs = ("MODEL.BACKBONE.NAME", model, "MODEL.BACKBONE.PATH", "", "TRAINER.MOCOOP.PROMPT_DEPTH_TEXT", 2)
    with pytest.raises(UserError, match="PROMPT_DEPTH_TEXT 2: .*nothing can be learned inside its layers"):
        make_trainer("MoCoOp", "vit_b16", *pairs)
    for method, stem in (("MaPLe", "vit_b16_c2_ep5_batch4_2ctx"), ("TCP", "vit_b16_ep100_ctxv1")):
        with pytest.raises(UserError, match="nothing can be learned inside its layers"):
            make_trainer(method, stem, "MODEL.BACKBONE.NAME", model, "MODEL.BACKBONE.PATH", "")
