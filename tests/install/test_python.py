"""``import mocoop``: the functions behave as the command lines do, and leave the caller's process as it was."""

import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import mocoop
from basics import UserError, home

SHORT = {"OPTIM.MAX_EPOCH": 1, "DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("python")
    return {"data": root / "data", "output": root / "output"}


@pytest.fixture(scope="module")
def run(folders):
    return mocoop.train("MoCoOp", "digits", shots=2, settings=SHORT, **folders)


@pytest.fixture(scope="module")
def model(run):
    return mocoop.load(run)


def state():
    return (
        random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes(), sys.stdout, sys.stderr,
        signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), list(warnings.filters),
    )  # fmt: skip


def test_import_needs_nothing_heavy(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(home.PROJECT)!r}); import mocoop; print({{'torch', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "set()\n", done


def test_training_leaves_what_the_script_leaves_and_is_not_repeated(run, folders, capsys):
    assert run.folder == folders["output"] / "base2new/train_base/digits/shots_2/MoCoOp/builtin/seed1"
    assert {"log.txt", "results.json", "prompt_learner"} <= {path.name for path in run.folder.iterdir()}
    assert run.results["config"]["OPTIM"]["MAX_EPOCH"] == 1 and 0 < run.accuracy <= 100
    again = mocoop.train("MoCoOp", "digits", shots=2, settings=SHORT, **folders)
    assert again.results == run.results and "already finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="OPTIM.MAX_EPOCH"):
        mocoop.train("MoCoOp", "digits", shots=2, settings={**SHORT, "OPTIM.MAX_EPOCH": 2}, **folders)


def test_new_classes(run, capsys):
    new = mocoop.evaluate(run)
    assert new.results["subsample_classes"] == "new" and new.folder.parts[-6] == "test_new"
    assert "=> result" in capsys.readouterr().out
    with pytest.raises(UserError, match="can't be evaluated on letters"):
        mocoop.evaluate(run, "letters")


def test_the_process_is_as_it_was(folders, capsys):
    before = state()
    trained = mocoop.train("ZeroshotCLIP", "digits", settings={"DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False}, **folders)
    model = mocoop.load(trained)
    model.predict(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="unknown key"):
        mocoop.train("CoOp", "digits", settings={"OPTIM.MAX_EPOCHS": 1}, **folders)
    assert state() == before
    assert "accuracy" in capsys.readouterr().out


def test_images_of_every_kind_are_the_same_image(model, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (70, 64, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "image.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    several = [tmp_path / "image.png", str(tmp_path / "image.png"), image, array, tensor, model.predictor.transform(image)]
    said = model.predict(several, top=2)
    assert all(one["classes"] == said[0]["classes"] and len(one["classes"]) == 2 for one in said)
    assert [one["name"] for one in model.predict(image)[0]["classes"]][:2] == [one["name"] for one in said[0]["classes"]]
    shares = model.probabilities(np.stack([array, array]))
    assert shares.shape == (2, len(model.classes)) and torch.allclose(shares.sum(dim=1), torch.ones(2))
    assert model.classes[shares[0].argmax()] == said[0]["classes"][0]["name"]
    with pytest.raises(UserError, match="image not found"):
        model.predict("nowhere.png")


def test_what_was_learned(model):
    features, experts = model.class_features(), model.experts
    width = features.shape[-1]
    assert features.shape == (len(experts), len(model.classes), width)
    assert torch.allclose(features.norm(dim=-1), torch.ones(features.shape[:2]), atol=1e-5)
    weights = model.router_weights([np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)])
    assert weights.shape == (2, len(experts)) and torch.allclose(weights.sum(dim=1), torch.ones(2), atol=1e-5)


def test_other_classes(run):
    model = mocoop.load(run, classes=["zero", "nine"])
    assert model.classes == ["zero", "nine"] and model.class_features().shape[1] == 2
    assert "MoCoOp on Digits" in repr(model)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mocoop.train("CoOpp", "digits"), "method CoOpp: no such method.*CoOp"),
        (lambda: mocoop.train("CoOp", "digit"), "unknown dataset 'digit'.*digits"),
        (lambda: mocoop.train("CoOp", "digits", setting="fewshots"), "did you mean fewshot"),
        (lambda: mocoop.train("CoOp", "digits", shots=0), "shots 0"),
        (lambda: mocoop.load("nowhere"), "no such run folder"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_what_a_method_has_not(folders):
    settings = {"DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False}
    zero_shot = mocoop.load(mocoop.train("ZeroshotCLIP", "digits", settings=settings, **folders))
    with pytest.raises(UserError, match="has no router"):
        zero_shot.router_weights("image.png")


def test_a_name_that_means_another_package(tmp_path):
    """A checkout beside Hugging Face's `datasets`, which comes first on the path."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(home.PROJECT)!r}]\nimport mocoop\n"
        "try:\n    mocoop.load('x')\nexcept mocoop.UserError as e:\n    print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("`import datasets` means") and "pip install" in done.stdout, done
