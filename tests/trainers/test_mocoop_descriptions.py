"""MoCoOp guided by descriptions of classes: what the losses compare with, checkpoints, prediction, refusals."""

import json

import pytest
import torch

from basics import UserError
from dassl.utils import load_checkpoint
from inference import Predictor
from prompting import encode, unit
from tests.trainers.conftest import CLASSES
from tests.trainers.test_trainers import step
from trainers.mocoop.losses import by_template_count, text_loss_templates

GROUPS = [
    {
        "name": "looks",
        "template": "a photo of a {}.",
        "sentences": {c: [f"a {c} is red.", f"it has {c} colour."] for c in CLASSES},
    },
    {"name": "place", "template": "a {} outside.", "sentences": {c: [f"one sees a {c} there."] for c in CLASSES[1:]}},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"about": "", "groups": GROUPS}))
    return str(path)


def feature(trainer, text):
    """One sentence through the plain tower, by itself."""
    program = trainer.clip.tokenizer.framed(encode(text))
    return trainer.clip.encode_text(trainer._compile([[program]]))[0, 0]


def test_targets_by_hand(file, make_trainer):
    """A class's mean over its sentences; the first class, which one group lacks, has its sentences of all groups there."""
    trainer = make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", file)
    targets = trainer.training_targets()
    assert [tuple(h.shape) for h in targets.hard] == [(1, 5, trainer.clip.embed_dim)] * 2
    for group, hard in zip(GROUPS, targets.hard):
        for c, name in enumerate(trainer.dm.dataset.classnames):
            sentences = group["sentences"].get(name) or GROUPS[0]["sentences"][name]
            mean = torch.stack([feature(trainer, s) for s in sentences]).mean(dim=0)
            assert torch.allclose(hard[0, c], unit(mean), atol=1e-5)
    soft = trainer.text_features()
    expected = [text_loss_templates(soft[g : g + 1], by_template_count([targets.hard[g]]), 0.07) for g in range(2)]
    whole = text_loss_templates(soft, targets.stacks, 0.07)
    assert whole.item() == pytest.approx(sum(e.item() for e in expected) / 2, rel=1e-6)


def test_a_run(file, make_trainer, tmp_path):
    """Its checkpoint carries the sentences, and is evaluated and used for prediction without the file."""
    other, _ = step(make_trainer("MoCoOp", "vit_b16"))
    pairs = ("TRAINER.MOCOOP.TEMPLATES", file)
    loss, _ = step(make_trainer("MoCoOp", "vit_b16", *pairs, out="step"))
    assert loss != other
    trained = make_trainer("MoCoOp", "vit_b16", *pairs)
    trained.train()
    extras = load_checkpoint(str(tmp_path / "run" / "prompt_learner" / "model.pth.tar-2"))["extras"]
    assert extras["template_groups"][0]["sentences"] == GROUPS[0]["sentences"]
    plain = make_trainer("MoCoOp", "vit_b16", out="plain")
    plain.load_model(str(tmp_path / "run"), epoch=2)
    assert plain.groups == trained.groups and torch.equal(plain.text_features(), trained.text_features())
    (tmp_path / "groups.json").unlink()
    experts = Predictor(tmp_path / "run")([trained.dm.dataset.test[0].impath])[0]["experts"]
    assert [e["name"] for e in experts] == ["looks", "place"] and experts[1]["template"] == "a {} outside."


def test_fingerprints_tell_sentences_apart(file, make_trainer, tmp_path):
    one = make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", file).made_from()
    changed = json.loads(json.dumps(GROUPS).replace("is red", "is blue"))
    (tmp_path / "groups.json").write_text(json.dumps({"groups": changed}))
    assert make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", file, out="b").made_from() != one


def test_refusals(file, make_trainer, tmp_path):
    with pytest.raises(UserError, match="random deals templates"):
        make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", file, "TRAINER.MOCOOP.GROUPING", "random")
    lacking = [{**g, "sentences": {k: v for k, v in g["sentences"].items() if k != "bell"}} for g in GROUPS]
    (tmp_path / "groups.json").write_text(json.dumps({"groups": lacking}))
    with pytest.raises(UserError, match="no descriptions of 1 of 5 classes, first 'bell'"):
        make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", file).training_targets()
    for broken in ("{}", '{"groups": [{"name": "a"}]}', '{"groups": [{"name": "a", "template": "b", "sentences": {}}]}'):
        (tmp_path / "groups.json").write_text(broken)
        with pytest.raises(UserError, match="groups.json"):
            make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", file)
