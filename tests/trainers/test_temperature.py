"""TEST.CALIBRATE: the temperature is the best one on validation images, test images have no part in it, predictions use it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from basics import UserError
from dassl.evaluation.temperature import HIGHEST, LOWEST, fitted_temperature
from inference import Predictor, read_predictions
from tests.trainers.test_trainers import METHODS

ON = ("TEST.CALIBRATE", True)


def test_no_other_temperature_fits_better():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(clean.softmax(1), 1, generator=generator)[:, 0]
    found = fitted_temperature(7 * clean, labels)
    loss = lambda t: F.cross_entropy(7 * clean / t, labels).item()  # noqa: E731
    assert found == pytest.approx(7, rel=0.15)  # the labels were drawn from it
    assert min(map(loss, np.geomspace(LOWEST, HIGHEST, 2000))) >= loss(found) - 1e-9
    assert fitted_temperature(70 * clean, labels) == pytest.approx(10 * found, rel=1e-4)


@pytest.mark.parametrize("method", ["CoOp", "MoCoOp"])
def test_a_run_records_and_predicts_with_it(method, make_trainer, tmp_path):
    plain = make_trainer(method, METHODS[method], out="plain")
    plain.train()
    trainer = make_trainer(method, METHODS[method], *ON, "TEST.SAVE_PREDICTIONS", True)
    trainer.train()
    before, after = (json.loads((tmp_path / out / "results.json").read_text()) for out in ("plain", "run"))
    assert "temperature" not in before and before["metrics"]["accuracy"] == after["metrics"]["accuracy"]
    assert before.get("router") == after.get("router")  # which counts the images of the evaluation alone
    temperature, saved = after["temperature"], read_predictions(tmp_path / "run")
    rows = [trainer.parse_batch_test(batch) for batch in trainer.val_loader]
    with torch.no_grad():
        logits = torch.cat([trainer.model_inference(images) for images, _ in rows])
    assert temperature == pytest.approx(fitted_temperature(logits, torch.cat([labels for _, labels in rows])), rel=1e-4) != 1
    shares = torch.from_numpy(saved.logits).double().div(temperature).softmax(1)
    confidence = sum(found["images"] * found["confidence"] for found in after["calibration"]) / len(shares)
    assert confidence == pytest.approx(shares.max(1)[0].mean().item(), abs=1e-5)
    predictor = Predictor(tmp_path / "run")
    (found,) = predictor([trainer.dm.dataset.test[0].impath], top=5)
    assert [c["probability"] for c in found["classes"]] == pytest.approx(shares[0].sort(descending=True)[0].tolist(), abs=1e-4)
    if method == "CoOp":
        assert Predictor(tmp_path / "run", ["apple", "bell"]).temperature == 1


def test_where_all_validation_images_are_right(make_trainer, tmp_path, capsys):
    trainer = make_trainer("LinearProbe", METHODS["LinearProbe"], *ON)
    trainer.train()
    out = capsys.readouterr().out
    assert "Temperature 1: all 10 validation images are right" in out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["temperature"] == 1


def test_refusals(make_trainer, monkeypatch, image_root):
    with pytest.raises(UserError, match="TEST.CALIBRATE: with TEST.SPLIT val"):
        make_trainer("CoOp", METHODS["CoOp"], *ON, "TEST.SPLIT", "val")
    from datasets.image_folder import ImageFolder

    load = ImageFolder.load_split
    monkeypatch.setattr(ImageFolder, "load_split", lambda self: (load(self)[0], [], load(self)[2]))
    with pytest.raises(UserError, match="TEST.CALIBRATE: ImageFolder has no validation images"):
        make_trainer("CoOp", METHODS["CoOp"], *ON)
    monkeypatch.setattr(ImageFolder, "load_split", lambda self: (load(self)[0], load(self)[2], load(self)[2]))
    with pytest.raises(UserError, match="TEST.CALIBRATE: 10 validation images of ImageFolder are test images"):
        make_trainer("CoOp", METHODS["CoOp"], *ON)
