"""Every dataset, a miniature of it on disk, through train.py: one epoch of CoOp on base, its test on new, zero-shot."""

import json
import pathlib

import pytest
import torch
from miniatures import MINIATURES
from test_dataset_formats import CONFIGS

import train
from tests.golden.tiny_clip import state_dict

PROJECT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(state_dict("tiny_clip_vit"), path)
    return path


@pytest.fixture
def run(tmp_path, weights):
    """Function: one command line of train.py; returns what results.json says."""

    def command(dataset, trainer, config, output, *words):
        status = train.main(
            [
                "--root",
                str(tmp_path),
                "--seed",
                "1",
                "--trainer",
                trainer,
                "--output-dir",
                str(tmp_path / output),
                "--dataset-config-file",
                str(dataset),
                *words[: words.index("opts")],
                "--config-file",
                str(PROJECT / "configs" / "trainers" / trainer / f"{config}.yaml"),
                "MODEL.BACKBONE.PATH",
                str(weights),
                "INPUT.SIZE",
                "(32, 32)",
                "DATALOADER.NUM_WORKERS",
                "0",
                "DATASET.NUM_SHOTS",
                "2",
                *words[words.index("opts") + 1 :],
            ]
        )
        assert status == 0
        return json.loads((tmp_path / output / "results.json").read_text())

    return command


@pytest.mark.parametrize("stem", CONFIGS)
def test_base_to_new(stem, tmp_path, run):
    """Train on base, test on new, and zero-shot on new: the right number of images and classes each time."""
    name = CONFIGS[stem]
    mini = MINIATURES[name](tmp_path)
    yaml = PROJECT / "configs" / "datasets" / f"{stem}.yaml"
    half = (len(mini.classnames) + 1) // 2
    base = run(yaml, "CoOp", "vit_b16_ctxv1", "base", "opts", "OPTIM.MAX_EPOCH", "1", "DATASET.SUBSAMPLE_CLASSES", "base")
    new = run(
        yaml,
        "CoOp",
        "vit_b16_ctxv1",
        "new",
        "--eval-only",
        "--model-dir",
        str(tmp_path / "base"),
        "--load-epoch",
        "1",
        "opts",
        "DATASET.SUBSAMPLE_CLASSES",
        "new",
    )
    zero = run(yaml, "ZeroshotCLIP", "vit_b16", "zero", "--eval-only", "opts", "DATASET.SUBSAMPLE_CLASSES", "new")
    assert base["dataset"] == name and base["classnames"] == mini.classnames[:half]
    assert new["classnames"] == zero["classnames"] == mini.classnames[half:]
    assert base["metrics"]["total"] + new["metrics"]["total"] == mini.sizes[2]
    assert zero["metrics"]["total"] == new["metrics"]["total"]
    for result in (base, new, zero):
        assert result["status"] == "finished" and 0 <= result["metrics"]["accuracy"] <= 100


def test_own_folder(tmp_path, run):
    """A folder of class folders and one YAML file."""
    mini = MINIATURES["EuroSAT"](tmp_path)
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: eurosat/2750\n")
    result = run(yaml, "CoOp", "vit_b16_ctxv1", "out", "opts", "OPTIM.MAX_EPOCH", "1")
    assert result["classnames"] == sorted(
        folder.name for folder in mini.images.iterdir() if folder.is_dir() and folder.name != "split_fewshot"
    )


def test_missing_dataset_ends_before_a_model_is_loaded(tmp_path, capfd, monkeypatch):
    """Exit status 2, one line that says what to do."""
    monkeypatch.setattr("prompting.load_clip", None)
    status = train.main(
        [
            "--root",
            str(tmp_path),
            "--seed",
            "1",
            "--trainer",
            "CoOp",
            "--output-dir",
            str(tmp_path / "out"),
            "--dataset-config-file",
            str(PROJECT / "configs" / "datasets" / "food101.yaml"),
            "--config-file",
            str(PROJECT / "configs" / "trainers" / "CoOp" / "vit_b16_ctxv1.yaml"),
        ]
    )
    error = capfd.readouterr().err
    assert status == 2
    assert "error: Food101: " in error and "python -m datasets.download Food101" in error and "Traceback" not in error
