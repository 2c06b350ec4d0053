"""Cross-modal adaptation: what it learns from, how a setting is chosen, other classes."""

import json

import pytest
import torch

from dassl.utils import UserError
from prompting import unit
from tests.trainers.test_trainers import METHODS

STEM, KEY = METHODS["CrossModal"], "TRAINER.CROSSMODAL."
SHORT = ("OPTIM.MAX_EPOCH", 30)


def make(make_trainer, *pairs, **kwargs):
    return make_trainer("CrossModal", STEM, *SHORT, *pairs, **kwargs)


def test_it_learns_from_centre_crops_and_their_mirror_images(make_trainer):
    trainer = make(make_trainer)
    features, labels = trainer.images()
    assert len(features) == 40 and labels[:20].tolist() == labels[20:].tolist()
    loader = trainer.loader_of(trainer.dm.dataset.train_x)
    pixels = torch.cat([batch["img"] for batch in loader])
    with torch.no_grad():
        plain, mirrored = (trainer.clip.encode_image(x, raw=True) for x in (pixels, pixels.flip(-1)))
    torch.testing.assert_close(features, torch.cat([plain, mirrored]), rtol=1e-4, atol=1e-4)
    assert len(make(make_trainer, KEY + "VIEW", "none", out="none").images()[0]) == 20


def test_the_setting_of_the_best_validation_accuracy_is_taken_and_recorded(make_trainer, tmp_path, capsys):
    trainer = make(make_trainer, KEY + "LR", [0.0, 0.05], KEY + "EVAL_FREQ", 10)
    trainer.train()
    chosen = json.loads((tmp_path / "run" / "results.json").read_text())["selection"]
    tried = [line for line in capsys.readouterr().out.split("\n") if line.startswith("learning rate ")]
    accuracies = [float(line.split(": ")[1].split("%")[0]) for line in tried]
    assert len(tried) == 6 and chosen["protocol"] == "val" and chosen["by"] == "the best accuracy on 10 validation images"
    best = tried[accuracies.index(max(accuracies))]
    assert best.startswith(f"learning rate {chosen['learning rate']:g}, weight decay {chosen['weight decay']:g}")
    assert trainer.accuracy(*trainer.features_of(trainer.val_loader)) == pytest.approx(max(accuracies), abs=0.01)


def test_without_validation_images_nothing_is_chosen(make_trainer):
    trainer = make(make_trainer, KEY + "LR", [0.01, 0.05])
    trainer.dm.dataset._val = None
    trainer.fit()
    assert trainer.selection["protocol"] == "none" and trainer.selection["step"] == 30
    assert trainer.selection["learning rate"] == 0.01


def test_batches_are_half_texts(make_trainer):
    trainer = make(make_trainer)
    features, labels = trainer.images()
    texts = trainer.texts.reshape(-1, 64), torch.arange(5)
    images, words = (next(part) for part in trainer.batches((features, labels), texts, 8))
    assert len(images[1]) == len(words[1]) == 4
    assert all(torch.equal(trainer.texts[0, c], row) for row, c in zip(*words))
    alone = make(make_trainer, KEY + "MODALITY", "uni_modal", out="uni")
    assert [len(next(part)[1]) for part in alone.batches((features, labels), texts, 8)] == [8]
    with pytest.raises(UserError, match="none fits 40 images and 5 texts"):
        make(make_trainer, KEY + "BATCH_SIZE", [10, 64], out="large").fit()


@pytest.mark.parametrize("head", ["linear", "adapter"])
def test_a_class_that_was_not_learned_has_its_text_feature(head, make_trainer, tmp_path):
    make(make_trainer, KEY + "HEAD", head, "DATASET.SUBSAMPLE_CLASSES", "base").train()
    whole = make(make_trainer, KEY + "HEAD", head, out="all")
    before = whole.text_features().detach().clone()
    whole.load_model(str(tmp_path / "run"), epoch=30)
    after = whole.text_features().detach()
    torch.testing.assert_close(before[3:], after[3:])


def test_wise_ft_mixes_the_text_features_in(make_trainer, tmp_path):
    make(make_trainer, KEY + "INIT", "random").train()
    mixed = make(make_trainer, KEY + "INIT", "random", KEY + "WISE_FT", 0.5, out="mixed")
    mixed.load_model(str(tmp_path / "run"), epoch=30)
    text = unit(mixed.texts.mean(dim=0))
    torch.testing.assert_close(mixed.prepare().detach(), 0.5 * mixed.learner.head.weight.detach() + 0.5 * text)
