"""MoCoOp's switches of routing: against references written out one element at a time in fp64, and through whole runs."""

import json
import math

import pytest
import torch

from basics import UserError
from basics.identity import completed
from dassl.data import set_loader_epoch
from dassl.utils import load_checkpoint
from inference import Predictor
from tests.trainers.test_mocoop_losses import B, E, G, cosine, softmax
from tests.trainers.test_trainers import interrupted, learned, step
from trainers.mocoop import losses as L
from trainers.mocoop.parts import MixtureLearner

O = "TRAINER.MOCOOP."  # noqa: E741
ALL = (
    O + "ROUTER_TAU", 0.05, O + "ROUTER_CENTRE", True, O + "ROUTER_HIDDEN", 7, O + "BALANCE_LOSS", "switch",
    O + "LAMBDA_BALANCE", 0.5, "OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1,
)  # fmt: skip


@pytest.fixture
def random():
    torch.manual_seed(0)
    return {
        "v": torch.nn.functional.normalize(torch.randn(B, E, dtype=torch.float64), dim=-1),
        "means": torch.nn.functional.normalize(torch.randn(G, E, dtype=torch.float64), dim=-1),
        "centre": torch.randn(G, dtype=torch.float64),
        "r": torch.randn(B, G, dtype=torch.float64),
    }


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("tau", [1.0, 0.05, 3.0])
def test_target_with_temperature_and_centre(random, tau, centred):
    v, means, centre = random["v"], random["means"], random["centre"]
    target = L.group_target(v, means, tau, centre if centred else None)
    for b in range(B):
        expected = softmax([(cosine(v[b], means[g]) - float(centre[g]) * centred) / tau for g in range(G)])
        assert all(math.isclose(float(target[b, g]), expected[g], abs_tol=1e-12) for g in range(G))


@pytest.mark.parametrize("k", [1, 2, G])
def test_balance_losses(random, k):
    r = random["r"]
    chosen = [sorted(range(G), key=lambda g: -float(r[b, g]))[:k] for b in range(B)]
    shares = [softmax([float(x) for x in r[b]]) for b in range(B)]
    switch = 0.0
    for g in range(G):
        f = sum(g in chosen[b] for b in range(B)) / (B * k)
        switch += G * f * sum(shares[b][g] for b in range(B)) / B
    importance = [0.0] * G
    for b in range(B):
        for g, weight in zip(chosen[b], softmax([float(r[b, g]) for g in chosen[b]])):
            importance[g] += weight
    mean = sum(importance) / G
    variation = sum((x - mean) ** 2 for x in importance) / G / mean**2
    assert math.isclose(float(L.balance_loss(r, k, "switch")), switch, abs_tol=1e-12)
    assert math.isclose(float(L.balance_loss(r, k, "importance")), variation, abs_tol=1e-12)


def test_balance_losses_of_an_even_router():
    scores = torch.eye(G, dtype=torch.float64) * 50
    assert float(L.balance_loss(scores, 1, "switch")) == pytest.approx(1)
    assert float(L.balance_loss(scores, 1, "importance")) == pytest.approx(0)
    assert float(L.balance_loss(scores[:1].expand(G, G), 1, "switch")) == pytest.approx(G)
    assert float(L.balance_loss(scores[:1].expand(G, G), 1, "importance")) == pytest.approx(G - 1)


def test_router_with_a_hidden_layer(random, make_trainer):
    options = make_trainer("MoCoOp", "vit_b16", O + "ROUTER_HIDDEN", 7).options
    learner = MixtureLearner(torch.zeros(1, E), G, E, options, []).double()
    (first, one), (second, two) = [(m.weight.detach(), m.bias.detach()) for m in (learner.router[0], learner.router[2])]
    scores = learner.router(random["v"])
    for b in range(B):
        inner = [max(0.0, float(first[h] @ random["v"][b]) + float(one[h])) for h in range(7)]
        for g in range(G):
            expected = sum(float(second[g, h]) * inner[h] for h in range(7)) + float(two[g])
            assert math.isclose(float(scores[b, g]), expected, abs_tol=1e-12)


@pytest.mark.parametrize(
    "pairs", [("ROUTER_TAU", 0.5), ("ROUTER_HIDDEN", 3), ("BALANCE_LOSS", "importance"), ("BALANCE_LOSS", "switch")]
)
def test_each_switch_changes_the_computation(pairs, make_trainer):
    loss, weights = step(make_trainer("MoCoOp", "vit_b16"))
    other_loss, other = step(make_trainer("MoCoOp", "vit_b16", O + pairs[0], pairs[1]))
    assert other_loss != loss or other.keys() != weights.keys()


def test_the_centre_is_the_mean_over_training_images(make_trainer):
    kept, plain = (
        make_trainer(
            "MoCoOp", "vit_b16", O + "ROUTER_CENTRE", True, "TRAINER.FEATURE_CACHE", cache, "OPTIM.MAX_EPOCH", 1, out=out
        )
        for cache, out in ((".features", "kept"), ("", "plain"))
    )
    kept.train(), plain.train()
    assert torch.equal(kept.learner.router_centre, plain.learner.router_centre)
    means, total = plain.training_targets().means, torch.zeros(len(plain.groups), dtype=torch.float64)
    set_loader_epoch(plain.train_loader_x, 0)
    views = [view for batch in plain.train_loader_x for view in batch["img"]]
    for view in views:
        feature = plain.clip.encode_image(view[None])[0]
        total += torch.tensor([cosine(feature, m) for m in means], dtype=torch.float64)
    assert len(views) == len(plain.dm.dataset.train_x)
    assert torch.allclose(plain.learner.router_centre.double(), total / len(views), atol=1e-5)
    target = L.group_target(feature[None], means, 1.0, plain.learner.router_centre)
    assert not torch.allclose(target, L.group_target(feature[None], means), atol=1e-4)


def test_a_run_with_all_switches(make_trainer, tmp_path):
    """Interrupted, it ends with the bits of a run that wasn't; its checkpoint has the centre; prediction reads it."""
    make = lambda out: make_trainer("MoCoOp", "vit_b16", *ALL, out=out)  # noqa: E731
    whole, half = make("whole"), make("half")
    whole.train()
    interrupted(half, 2)
    again = make("half")
    again.mean_group_cosines = lambda: pytest.fail("a resumed run has the centre of its checkpoint")
    again.train()
    straight, resumed = learned(whole), learned(again)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    checkpoint = load_checkpoint(str(tmp_path / "half" / "prompt_learner" / "model.pth.tar-3"))
    assert torch.equal(checkpoint["state_dict"]["router_centre"], whole.learner.router_centre)
    assert whole.learner.router_centre.abs().max() > 0
    results = [json.loads((tmp_path / out / "results.json").read_text()) for out in ("whole", "half")]
    assert results[0]["metrics"] == results[1]["metrics"] and results[0]["router"]["training"]["target"] < 0.999
    predictor = Predictor(tmp_path / "half")
    image = whole.dm.dataset.test[0].impath
    experts = predictor([image])[0]["experts"]
    assert sum(e["chosen"] for e in experts) == 2 and sum(e["weight"] for e in experts) == pytest.approx(1)
    evaluated = make("evaluated")
    evaluated.evaluate(str(tmp_path / "whole"), 3)
    assert torch.equal(evaluated.learner.router_centre, whole.learner.router_centre)


@pytest.mark.parametrize("key, value", [("ROUTER_HIDDEN", 0), ("ROUTER_CENTRE", False)])
def test_weights_belong_to_the_kind_of_router(key, value, make_trainer, tmp_path):
    make_trainer("MoCoOp", "vit_b16", *ALL).train()
    other = make_trainer("MoCoOp", "vit_b16", *ALL, O + key, value, out="other")
    with pytest.raises(UserError, match=f"TRAINER.MOCOOP.{key}"):
        other.evaluate(str(tmp_path / "run"), 3)


@pytest.mark.parametrize("pairs, named", [
    (("ROUTER_TAU", 0.1, "ROUTER_LOSS", "none"), "ROUTER_TAU 0.1 has no effect with TRAINER.MOCOOP.ROUTER_LOSS none"),
    (("ROUTER_CENTRE", True, "ROUTER_TARGET", "true_class"), "ROUTER_CENTRE True has no effect with .*true_class"),
    (("BALANCE_LOSS", "switch", "LAMBDA_BALANCE", 0.0), "LAMBDA_BALANCE 0"),
])  # fmt: skip
def test_switches_without_an_effect_are_refused(pairs, named, make_trainer):
    with pytest.raises(UserError, match=named):
        make_trainer("MoCoOp", "vit_b16", *(O + w if i % 2 == 0 else w for i, w in enumerate(pairs)))


def test_a_record_from_before_the_switches_had_their_defaults():
    old = {"INPUT.SIZE": [224, 224], "TRAINER.MOCOOP.TOP_K": 2}
    assert completed(old)["TRAINER.MOCOOP.ROUTER_TAU"] == 1 and completed(old)["TRAINER.MOCOOP.BALANCE_LOSS"] == "none"
    assert "TRAINER.MOCOOP.ROUTER_TAU" not in completed({"INPUT.SIZE": [224, 224]})
