"""A MoCoOp run as one class matrix: by hand, fitted, accuracies, files, refusals."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import predict
from basics import UserError
from inference import MatrixPredictor, read_matrix
from inference.distil import distil, main
from prompting import unit
from tests.trainers.conftest import image_root, make_trainer, tiny_weights  # noqa: F401  (fixtures)
from trainers.mocoop import distil as matrices
from trainers.mocoop.losses import top_k_weights

BASE = ("DATASET.SUBSAMPLE_CLASSES", "base", "TRAINER.MOCOOP.TOP_K", 1)


@pytest.fixture
def trained(make_trainer):  # noqa: F811
    trainer = make_trainer("MoCoOp", "vit_b16", *BASE)
    trainer.train()
    return trainer


def read(file):
    with safe_open(str(file), framework="pt") as content:
        return content.get_tensor("classes"), {key: json.loads(value) for key, value in content.metadata().items()}


def test_a_matrix_by_hand(trained, tmp_path, capsys):
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "d")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "d" / "distilled.json").read_text())
    assert set(found["classes"]) == {"base", "new"} and found["training_images"] == len(trained.dm.dataset.train_x)
    images = torch.stack([trained.test_loader.dataset.transform(read_image(item)) for item in trained.dm.dataset.train_x])
    weights = top_k_weights(trained.learner.router(trained.clip.encode_image(images)), 1).mean(dim=0)
    assert list(found["mixing"].values()) == pytest.approx(weights.tolist(), abs=1e-5)
    matrix, about = read(tmp_path / "d" / "base.safetensors")
    by_hand = sum(w * t for w, t in zip(weights, trained.text_features()))
    assert torch.allclose(matrix, unit(by_hand).detach(), atol=1e-5)
    assert about["classnames"] == list(trained.dm.dataset.classnames) and about["scale"] == pytest.approx(1 / 0.07)
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    base = found["classes"]["base"]
    assert base["model"] == pytest.approx(record["metrics"]["accuracy"]) and base["lost"] == base["model"] - base["matrix"]
    right = 0
    for item in trained.dm.dataset.test:
        feature = trained.clip.encode_image(trained.test_loader.dataset.transform(read_image(item))[None])[0]
        right += int((matrix @ feature).argmax()) == item.label
    assert base["matrix"] == pytest.approx(100 * right / base["images"]) and f"matrix {base['matrix']:.2f}%" in printed
    new, about = read(tmp_path / "d" / "new.safetensors")
    assert len(new) == 2 and about["classnames"] == ["dog", "electric_fan"]


def test_predictions_with_a_matrix(trained, tmp_path, capsys):
    main([str(tmp_path / "run"), "--out", str(tmp_path / "d")])
    for classes in ("base", "new"):
        file = tmp_path / "d" / f"{classes}.safetensors"
        rows, about = read(file)
        item = trained.dm.dataset.test[0]
        feature = trained.clip.encode_image(trained.test_loader.dataset.transform(read_image(item))[None])[0]
        shares = (about["scale"] * rows @ feature).softmax(dim=0).tolist()
        found = MatrixPredictor(tmp_path / "run", read_matrix(file))([item.impath])[0]
        assert {c["name"]: c["probability"] for c in found["classes"]} == pytest.approx(dict(zip(about["classnames"], shares)))
        assert "experts" not in found
    output = tmp_path / "table.json"
    words = ["--model-dir", str(tmp_path / "run"), "--matrix", str(file), item.impath]
    capsys.readouterr()
    assert predict.main([*words, "--output", str(output)]) == 0
    said, printed = json.loads(output.read_text()), capsys.readouterr()
    assert said["matrix"] == str(file) and said["classnames"] == ["dog", "electric_fan"]
    assert "router" not in printed.out and "on its own" not in printed.err
    assert predict.main([*words, "--load-epoch", "2"]) == 2 and "--load-epoch 2 has no effect" in capsys.readouterr().err


def test_matrices_that_are_refused(trained, make_trainer, tmp_path, capsys):  # noqa: F811
    distil(tmp_path / "run", tmp_path / "d")
    file = tmp_path / "d" / "base.safetensors"
    make_trainer("MoCoOp", "vit_b16", *BASE, "SEED", 2, out="other").train()
    with pytest.raises(UserError, match="was not made from .*other"):
        MatrixPredictor(tmp_path / "other", read_matrix(file))
    with pytest.raises(UserError, match="no such file"):
        read_matrix(tmp_path / "d" / "all.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UserError, match="damaged"):
        read_matrix(file)
    save_file({"classes": torch.zeros(3, 4)}, str(file), metadata={"classnames": "[]", "scale": "1.0"})  # as it once was
    with pytest.raises(UserError, match="not written by this version"):
        read_matrix(file)


def read_image(item):
    from dassl.utils import read_image

    return read_image(item.impath)


def test_fitting_brings_the_matrix_to_the_model(trained):
    features, _ = trained.features_of(trained.loader_of(trained.dm.dataset.train_x))
    start = matrices.class_matrix(trained, matrices.mean_mixing(trained, features).flip(0))  # the wrong experts
    target = matrices.teacher_logits(trained, features).log_softmax(dim=-1)

    def distance(matrix):
        ours = (trained.scale * features @ matrix.t()).log_softmax(dim=-1)
        return float((target.exp() * (target - ours)).sum(dim=-1).mean())

    moved = matrices.fitted(trained, start, features)
    assert distance(moved) < 0.2 * distance(start) and torch.allclose(moved.norm(dim=-1), torch.ones(len(moved)), atol=1e-5)


def test_one_expert_loses_nothing(make_trainer, tmp_path):  # noqa: F811
    """Where the router has no choice, the matrix is the model."""
    (tmp_path / "one.txt").write_text("a photo of a {}.\na picture of a {}.\n")
    make_trainer("MoCoOp", "vit_b16", *BASE, "TRAINER.MOCOOP.TEMPLATES", str(tmp_path / "one.txt")).train()
    found = distil(tmp_path / "run", tmp_path / "d")
    assert all(said["lost"] == 0 and said["agree"] == 100 for said in found["classes"].values())
    fitted = distil(tmp_path / "run", tmp_path / "f", fit=True)["classes"]
    assert fitted["base"]["fitted"] and not fitted["new"]["fitted"]  # of new classes there are no training images


def test_refusals(make_trainer, tmp_path):  # noqa: F811
    make_trainer("CoOp", "vit_b16_ctxv1", out="coop").train()
    with pytest.raises(UserError, match="no mixture of experts"):
        distil(tmp_path / "coop", tmp_path / "d")
    make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TUNE_LAYERNORM", True, out="ln").train()
    with pytest.raises(UserError, match="TUNE_LAYERNORM"):
        distil(tmp_path / "ln", tmp_path / "d")
    with pytest.raises(UserError, match="several labels"):
        distil(tmp_path / "ln", tmp_path / "d", ["DATASET.MULTI_LABEL", True])
    with pytest.raises(UserError, match="no such run folder"):
        distil(tmp_path / "gone", tmp_path / "d")
