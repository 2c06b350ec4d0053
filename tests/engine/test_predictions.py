"""Saved scores are those of the evaluation, belong to their run, and change nothing else; top-k is counted as named."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from basics import DamagedFileError, UserError
from dassl.evaluation import build_evaluator
from inference import read_predictions

SAVE = ("TEST.SAVE_PREDICTIONS", True)
OF_THE_MOMENT = ("seconds", "peak_memory_mb", "finished_at", "config", "metrics")


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_scores_are_those_of_the_evaluation(make_trainer, tmp_path, image_root):
    make_trainer().train()
    plain = results_of(tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "plain")
    trainer = make_trainer(*SAVE, "TEST.TOP_K", "(1, 2, 3)")
    trainer.train()
    results, saved = results_of(tmp_path / "run"), read_predictions(tmp_path / "run")
    assert {k: v for k, v in results.items() if k not in OF_THE_MOMENT} == {
        k: v for k, v in plain.items() if k not in OF_THE_MOMENT
    }
    assert results["fingerprint"] == plain["fingerprint"] and results["metrics"].items() >= plain["metrics"].items()
    assert saved.split == "test" and saved.classnames == results["classnames"] and len(saved.images) == 15
    assert 100 * np.mean(saved.logits.argmax(1) == saved.labels) == pytest.approx(results["metrics"]["accuracy"])
    order = np.argsort(-saved.logits, axis=1)
    for k in (1, 2, 3):
        among = (order[:, :k] == saved.labels[:, None]).any(1).mean()
        assert results["metrics"][f"top_{k}"] == pytest.approx(100 * among)
    assert results["metrics"]["top_3"] == 100
    for number in (0, 7, 14):  # each row is its image's
        item = trainer.dm.dataset.test[number]
        assert item.impath == str(image_root / saved.images[number]) and item.label == saved.labels[number]
        with torch.no_grad():
            scores = trainer.model_inference(trainer.test_loader.dataset[number]["img"][None])
        assert torch.allclose(scores[0], torch.from_numpy(saved.logits[number]), atol=1e-5)


def test_a_finished_run_is_evaluated_again_for_them(make_trainer, tmp_path, capsys):
    make_trainer().train()
    before = (tmp_path / "run" / "results.json").read_text()
    with pytest.raises(UserError, match=r"has no predictions.safetensors: .*--save-predictions"):
        read_predictions(tmp_path / "run")
    make_trainer(*SAVE, "TEST.TOP_K", "(2,)").train()
    assert len(read_predictions(tmp_path / "run").labels) == 15
    assert (tmp_path / "run" / "results.json").read_text() == before
    assert "Not in that record: top_2 " in capsys.readouterr().out


def test_of_another_run_or_damaged(make_trainer, tmp_path):
    make_trainer(*SAVE).train()
    file = tmp_path / "run" / "predictions.safetensors"
    kept = file.read_bytes()
    changed = {**results_of(tmp_path / "run"), "fingerprint": "0" * 64}
    (tmp_path / "run" / "results.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match="is of another run"):
        read_predictions(tmp_path / "run")
    file.write_bytes(kept[:-10])
    with pytest.raises(DamagedFileError):
        read_predictions(tmp_path / "run")
    file.write_bytes(kept)
    save_file(load_file(file), file)
    with pytest.raises(DamagedFileError):
        read_predictions(tmp_path / "run")


@pytest.mark.parametrize(
    "opts, words",
    [
        (("TEST.NO_TEST", True), "nothing is predicted|there are no predictions"),
        (("DATALOADER.TEST.SAMPLER", "RandomSampler"), "set it to SequentialSampler"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_training(make_trainer, opts, words, tmp_path):
    with pytest.raises(UserError, match=words):
        make_trainer(*SAVE, *opts)
    assert not (tmp_path / "run").exists()


def test_more_than_there_are_classes(make_cfg):
    with pytest.raises(UserError, match="TEST.TOP_K 4: there are 3 classes"):
        build_evaluator(make_cfg("TEST.TOP_K", "(1, 4)"), lab2cname=dict(enumerate("abc")))
