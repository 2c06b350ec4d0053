"""Methods that learn something for each class beside CLIP's own text features: other classes, published files, other bases."""

from collections import OrderedDict

import pytest
import torch

from dassl.utils import UserError
from prompting import unit
from tests.trainers.conftest import CLASSES
from tests.trainers.test_trainers import METHODS

ALPHA = ("TRAINER.TaskRes.RESIDUAL_SCALE", 0.5)


def published(folder, name, **state):
    """A checkpoint as Dassl writes it, without the names of its classes."""
    (folder / name).mkdir(parents=True)
    torch.save(
        {"state_dict": OrderedDict(state), "epoch": 100, "optimizer": None, "scheduler": None},
        folder / name / "model.pth.tar-100",
    )


def test_a_published_checkpoint_is_evaluated_on_its_own_text_features(make_trainer, tmp_path):
    base, residuals = torch.randn(5, 64), torch.randn(5, 64)
    published(tmp_path / "theirs", "prompt_learner", text_feature_residuals=residuals, base_text_features=base)
    trainer = make_trainer("TaskRes", METHODS["TaskRes"], *ALPHA)
    trainer.load_model(str(tmp_path / "theirs"), epoch=100)
    assert torch.equal(trainer.text_features().detach(), unit(base + 0.5 * residuals))


def test_rows_of_imagenet_serve_its_variants(make_trainer, tmp_path, capsys):
    base, residuals = torch.randn(7, 64), torch.randn(7, 64)
    published(tmp_path / "theirs", "prompt_learner", text_feature_residuals=residuals, base_text_features=base)
    trainer = make_trainer("TaskRes", METHODS["TaskRes"], *ALPHA)
    with pytest.raises(UserError, match="has the shape"):
        trainer.load_model(str(tmp_path / "theirs"), epoch=100)
    rows = [5, 0, 1, 3, 6]
    trainer.dm.dataset.training_rows = lambda: ([f"class {number}" for number in range(7)], rows)
    trainer.load_model(str(tmp_path / "theirs"), epoch=100)
    assert torch.equal(trainer.learner.text_feature_residuals.detach(), residuals[rows])
    assert torch.equal(trainer.learner.base_text_features, base[rows])
    assert "Of these 5 classes, 5 were learned" in capsys.readouterr().out


def test_a_class_without_a_residual_has_clips_own_feature(make_trainer, tmp_path):
    make_trainer("TaskRes", METHODS["TaskRes"], *ALPHA, "DATASET.SUBSAMPLE_CLASSES", "base").train()
    whole = make_trainer("TaskRes", METHODS["TaskRes"], *ALPHA, out="all")
    before = whole.text_features().detach()
    whole.load_model(str(tmp_path / "run"), epoch=2)
    after = whole.text_features().detach()
    assert torch.equal(before[3:], after[3:]) and (before[:3] != after[:3]).any(dim=1).all()


def test_class_names_keep_their_underscores(make_trainer):
    trainer = make_trainer("TaskRes", METHODS["TaskRes"])
    plain = trainer.hard_features(["a photo of a {}."], CLASSES, raw=True)[0]
    same = (plain - trainer.learner.base_text_features).abs().amax(dim=1) < 1e-5
    assert same.tolist() == ["_" not in name for name in CLASSES]


def test_an_enhanced_base_is_another_text_projection(make_trainer, tmp_path):
    plain = make_trainer("TaskRes", METHODS["TaskRes"])
    projection = plain.clip.text.text_projection.detach()  # [D, E]
    turned = torch.linalg.qr(torch.randn(64, 64))[0]
    torch.save({"state_dict": {"weight": (projection @ turned).t()}}, tmp_path / "base.pth.tar")
    key = "TRAINER.TaskRes.ENHANCED_BASE"
    trainer = make_trainer("TaskRes", METHODS["TaskRes"], key, str(tmp_path / "base.pth.tar"), out="enhanced")
    torch.testing.assert_close(
        trainer.learner.base_text_features, plain.learner.base_text_features @ turned, rtol=1e-4, atol=1e-4
    )
    assert trainer.made_from().keys() - plain.made_from().keys() == {"enhanced base"}
    for saved in ({"state_dict": {"weight": torch.zeros(3, 64)}}, {"weight": torch.zeros(64, 64)}):
        torch.save(saved, tmp_path / "wrong.pth.tar")
        with pytest.raises(UserError, match="expected a weight"):
            make_trainer("TaskRes", METHODS["TaskRes"], key, str(tmp_path / "wrong.pth.tar"), out="wrong")
