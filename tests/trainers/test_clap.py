"""CLAP: what its options mean, what it trains on, other classes, published files, several support sets."""

import json
from collections import Counter

import pytest
import torch

from dassl.utils import UserError
from learning.clap_settings import grid_of
from prompting import unit
from tests.trainers.test_base_text import published
from tests.trainers.test_trainers import METHODS

STEM, INIT, CONSTRAINT = METHODS["ADAPTER"], "TRAINER.ADAPTER.INIT", "TRAINER.ADAPTER.CONSTRAINT"
NONE, TWO = (CONSTRAINT, "none"), ("TRAINER.ADAPTER.VIEWS", 2)
KINDS = ("RANDOM", "ZS", "TR", "TRenh", "ClipA", "TipA", "TipA-f-", "CrossModal")


@pytest.mark.parametrize("kind", KINDS)
def test_every_init_trains_is_saved_and_loaded(kind, make_trainer, tmp_path):
    trainer = make_trainer("ADAPTER", STEM, INIT, kind, *NONE, *TWO)
    trainer.train()
    epochs = 1 if kind == "TipA" else 2
    again = make_trainer("ADAPTER", STEM, INIT, kind, *NONE, *TWO, out="again")
    again.load_model(str(tmp_path / "run"), epoch=epochs)
    again.test()
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(trainer.model_inference(images), again.model_inference(images))


@pytest.mark.parametrize("kind", ["ZS", "TR", "ClipA", "TipA-f-"])
def test_a_class_that_was_not_learned_has_its_text_feature(kind, make_trainer, tmp_path):
    make_trainer("ADAPTER", STEM, INIT, kind, *NONE, *TWO, "DATASET.SUBSAMPLE_CLASSES", "base").train()
    whole = make_trainer("ADAPTER", STEM, INIT, kind, *NONE, *TWO, out="all")
    before = whole.text_features().detach()
    whole.load_model(str(tmp_path / "run"), epoch=2)
    after = whole.text_features().detach()
    torch.testing.assert_close(before[3:], after[3:])
    assert (kind in ("ZS", "TR")) != torch.allclose(before[:3], after[:3], atol=1e-5)
    features = whole.clip.encode_image(torch.randn(4, 3, 32, 32), raw=True)
    if kind == "TipA-f-":
        assert whole.learner.cache_values.shape == (12, 5) and not whole.learner.cache_values[:, 3:].any()
    assert whole.logits(features, whole.prepare()).shape == (4, 5)


def test_published_checkpoints(make_trainer, tmp_path):
    C, E, scale = 5, 64, torch.tensor(4.6)
    base, other = torch.randn(C, E), torch.randn(C, E)
    published(tmp_path / "zs", "adapter", logit_scale=scale, prototypes=other, base_text_features=base)
    trainer = make_trainer("ADAPTER", STEM)
    trainer.load_model(str(tmp_path / "zs"), epoch=100)
    assert torch.equal(trainer.text_features().detach(), unit(other))
    first, second = torch.randn(E // 4, E), torch.randn(E, E // 4)
    published(tmp_path / "clipa", "adapter", logit_scale=scale, prototypes=base, base_text_features=base,
              **{"mlp.0.weight": first, "mlp.2.weight": second})  # fmt: skip
    trainer = make_trainer("ADAPTER", STEM, INIT, "ClipA", *NONE, out="b")
    trainer.load_model(str(tmp_path / "clipa"), epoch=100)
    assert torch.equal(trainer.text_features(), unit(base)) and torch.equal(trainer.learner.mlp[2].weight.detach(), second)
    keys, values = torch.randn(7, E), torch.eye(C)[[0, 1, 2, 3, 4, 0, 1]]
    published(tmp_path / "tipa", "adapter", logit_scale=scale, prototypes=base, base_text_features=base, cache_keys=keys,
              cache_values=values)  # fmt: skip
    trainer = make_trainer("ADAPTER", STEM, INIT, "TipA-f-", *NONE, out="c")
    trainer.load_model(str(tmp_path / "tipa"), epoch=100)
    feature = torch.randn(2, E)
    cache = (feature @ unit(keys).t() - 1).exp() @ values
    expected = trainer.clip.logit_scale * unit(feature) @ unit(base).t() + cache
    torch.testing.assert_close(trainer.logits(feature, trainer.prepare()).detach(), expected)


def test_multipliers_are_what_zero_shot_clip_thinks_of_the_classes(make_trainer):
    """By the paper's words, from the trainer's own rows."""
    found = {}
    for constraint in ("l2", "l2_balanced", "l2_corrected", "l2_constant"):
        trainer = make_trainer("ADAPTER", STEM, CONSTRAINT, constraint, *TWO, "OPTIM.MAX_EPOCH", 1, out=constraint)
        text = trainer.text_features().detach().clone()
        trainer.train()
        found[constraint] = trainer._multipliers
    features, labels = trainer._rows
    probability = (trainer.clip.logit_scale * unit(features) @ text.t()).softmax(dim=1)
    own = torch.stack([probability[labels == c, c].mean() for c in range(5)])
    torch.testing.assert_close(found["l2"], own)
    torch.testing.assert_close(found["l2_balanced"], torch.ones(5))
    torch.testing.assert_close(found["l2_corrected"], own / own.mean())
    torch.testing.assert_close(found["l2_constant"], own.mean().expand(5))


def test_an_epoch_is_one_pass_over_as_many_rows_as_there_are_images(make_trainer):
    trainer = make_trainer("ADAPTER", STEM, *TWO, "DATALOADER.TRAIN_X.BATCH_SIZE", 6)
    trainer._rows = trainer.support_rows()
    features, labels = trainer._rows
    assert len(features) == len(labels) == 40 and Counter(labels.tolist()) == dict.fromkeys(range(5), 8)
    assert not torch.equal(features[:20], features[20:])  # other views
    epochs = []
    for trainer.epoch in (0, 1):
        batches = trainer.batches_of_rows(features, labels)
        assert [len(b["label"]) for b in batches] == [6, 6, 6]
        epochs.append(torch.cat([b["img"] for b in batches]))
    assert not torch.equal(*epochs)
    trainer = make_trainer("ADAPTER", STEM, *TWO, "DATALOADER.TRAIN_X.BATCH_SIZE", 32, out="large")
    assert [len(b["label"]) for b in trainer.batches_of_rows(features, labels)] == [32]


def test_cross_modal_rows_are_half_text(make_trainer):
    trainer = make_trainer("ADAPTER", STEM, INIT, "CrossModal", *NONE, *TWO)
    features, labels = trainer.support_rows()
    assert len(features) == 80 and trainer.order(80).shape == (40,)
    text = trainer.text_rows[0]
    assert all(torch.equal(features[row], text[labels[row]]) for row in range(40, 80))


@pytest.mark.parametrize("pairs, words", [
    ((INIT, "TipAf"), "must be one of RANDOM"), ((CONSTRAINT, "l1"), "must be none, or l2 or cosine"),
    ((CONSTRAINT, "balanced"), "must be none, or l2 or cosine"), ((CONSTRAINT, "l2_cosine"), "must be none, or l2 or cosine"),
    ((CONSTRAINT, "l2_adaptive"), "must be none, or l2 or cosine"), ((INIT, "CrossModal"), "for which there is none"),
])  # fmt: skip
def test_options_that_mean_nothing(pairs, words, make_trainer):
    with pytest.raises(UserError) as error:
        make_trainer("ADAPTER", STEM, *pairs)
    assert words in str(error.value)


def test_a_constraint_without_prototypes_is_said_to_have_no_effect(make_trainer, capsys):
    make_trainer("ADAPTER", STEM, INIT, "ClipA")
    assert "TRAINER.ADAPTER.CONSTRAINT l2 has no effect" in capsys.readouterr().out


@pytest.mark.parametrize("kind, settings", [("TR", 15), ("TRenh", 15), ("ClipA", 12), ("TipA", 400), ("TipA-f-", 200)])
def test_grids_are_those_of_the_repository(kind, settings):
    grid = grid_of(f"{kind}_grid_search")
    assert len(grid) == settings and not grid_of(kind)
    assert grid[0] == {
        "TR": {"alpha": 0.2, "lr": 0.1}, "TRenh": {"alpha": 0.2, "lr": 0.1}, "ClipA": {"lr": 0.1, "ratio": 0.2},
        "TipA": {"alpha": 1.0, "beta": 1.0}, "TipA-f-": {"alpha": 1.0, "beta": 1.0, "lr": 0.1},
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["TR", "ClipA", "TipA"])
def test_a_search_takes_what_is_best_on_the_test_images_and_says_so(kind, make_trainer, tmp_path, capsys):
    trainer = make_trainer("ADAPTER", STEM, INIT, f"{kind}_grid_search", *NONE, *TWO)
    trainer.train()
    out = capsys.readouterr().out
    tried = [float(line.split(" at best ")[1].rstrip("%")) for line in out.split("\n") if " at best " in line]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    stopped = out.count("for a value isn't finite")  # unit keys, but queries of length 7
    assert len(tried) + stopped == len(grid_of(f"{kind}_grid_search")) and "chosen on the test images" in out
    assert bool(stopped) == (kind == "TipA")
    assert results["metrics"]["accuracy"] == pytest.approx(max(tried), abs=0.01)
    assert results["selection"]["protocol"] == "published" and "10 test images" in results["selection"]["by"]
    again = make_trainer("ADAPTER", STEM, INIT, f"{kind}_grid_search", *NONE, *TWO, out="again")
    again.load_model(str(tmp_path / "run"), epoch=trainer.max_epoch)
    images = torch.randn(3, 3, 32, 32)
    assert again.learner.setting == trainer.learner.setting
    assert torch.equal(trainer.model_inference(images), again.model_inference(images))
    assert trainer.cfg.OPTIM.LR == 0.1


def test_each_setting_of_a_search_is_a_training_of_its_own(make_trainer):
    """The same as a run with that setting alone."""
    search = make_trainer("ADAPTER", STEM, INIT, "TR_grid_search", *NONE, *TWO)
    search.search([{"alpha": 0.2, "lr": 0.01}, {"alpha": 0.5, "lr": 0.1}])
    search.begin({"alpha": 0.5})
    for search.epoch in (0, 1):
        search.train_rows()
    alone = make_trainer("ADAPTER", STEM, INIT, "TR", *NONE, *TWO, "TEST.NO_TEST", True, out="alone")
    alone.train()
    assert torch.equal(search.learner.prototypes, alone.learner.prototypes)
