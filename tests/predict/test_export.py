"""An exported classifier gives the run's own predictions, read as the documentation reads it; what isn't exact is refused."""

import json
import re

import numpy as np
import pytest
import torch
from packaging.version import Version
from PIL import Image
from safetensors.torch import save_file

from basics import UserError
from inference import Predictor
from inference import export as exporting
from tests.predict.test_predict import PROJECT, one_error

WRITES_ONNX = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.14"), reason="this PyTorch can't write these models as ONNX; inference.export says so"
)
READERS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "export.md").read_text(), re.DOTALL)


def logits_of(predictor, images):
    return torch.cat([batch.logits for batch in predictor.batches(images)]).numpy()


def read(number, **names):
    """Run a reader of docs/export.md; what it leaves."""
    exec(compile(READERS[number], "docs/export.md", "exec"), names)
    return names


@pytest.fixture(scope="module")
def photos(world, tmp_path_factory):
    """Test images, and one that isn't square."""
    wide = tmp_path_factory.mktemp("wide") / "wide.png"
    Image.open(world.images[3]).resize((75, 41)).save(wide)
    return [*world.images, str(wide)]


@pytest.mark.parametrize("method", ["CoOp", "ZeroshotCLIP", "LinearProbe", "TaskRes"])
def test_class_features(world, photos, method, tmp_path):
    predictor = Predictor(world.runs[method])
    files = exporting.export(predictor, tmp_path, onnx=False)
    assert files == ["classifier.safetensors", "classifier.json"] and not (tmp_path / "classifier.onnx").exists()
    pixels = torch.stack([predictor.transform(Image.open(path).convert("RGB")) for path in photos])
    with torch.no_grad():
        features = predictor.trainer.clip.encode_image(pixels, raw=True).numpy()
    left = read(1, folder=str(tmp_path), features=features)
    np.testing.assert_allclose(left["logits"], logits_of(predictor, photos), rtol=1e-4, atol=1e-4)
    assert left["about"]["classnames"] == world.classes


@pytest.mark.timeout(600)
@WRITES_ONNX
def test_onnx(world, photos, tmp_path, capfd):
    """Image files to class names with onnxruntime, NumPy and Pillow alone."""
    pytest.importorskip("onnxscript")
    (tmp_path / "classifier.onnx").write_bytes(b"of an earlier export")
    assert exporting.main([str(world.runs["CoOp"]), "--output", str(tmp_path)]) == 0
    predictor = Predictor(world.runs["CoOp"])
    left = read(0, folder=str(tmp_path), paths=photos)
    np.testing.assert_allclose(left["logits"], logits_of(predictor, photos), rtol=1e-3, atol=1e-3)
    assert left["found"] == [p["classes"][0]["name"] for p in predictor(photos, top=1)]


def test_mocoops_mixture(world, photos, tmp_path):
    """Of a router and prompts drawn at random: every image has a mixture of its own."""
    from trainers.mocoop.head import MixtureHead

    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)  # noqa: E731
    trainer = Predictor(world.runs["MoCoOp"]).trainer
    raw = 3 * draw(7, trainer.clip.embed_dim)
    with torch.no_grad():
        trainer.learner.router.weight.copy_(5 * draw(*trainer.learner.router.weight.shape))
        for renormalise in (True, False):
            trainer.cfg.defrost()
            trainer.options.RENORMALISE = renormalise
            head = MixtureHead(trainer.text_features(), trainer.learner.router, 2, 1 / trainer.options.TAU, renormalise)
            trainer._prepared = None
            expected = trainer.logits(torch.nn.functional.normalize(raw, dim=-1), trainer.prepared())
            assert torch.allclose(head(raw), expected, atol=1e-4)
            save_file({k: v.contiguous() for k, v in head.state_dict().items()}, tmp_path / "classifier.safetensors")
            (tmp_path / "classifier.json").write_text(json.dumps(head.settings()))
            left = read(1, folder=str(tmp_path), features=raw.numpy())
            np.testing.assert_allclose(left["logits"], expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("method, words", [
    ("MoCoOp", "MoCoOp learns layers of the image encoder"),
    ("CLIP_Adapter", "CLIP_Adapter has an image side of its own, which only the ONNX file can hold; leave out --no-onnx"),
    ("ADAPTER", "ADAPTER's logits aren't a list of class features"),
])  # fmt: skip
def test_what_is_not_exact_is_refused(world, method, words, tmp_path, capfd):
    assert exporting.main([str(world.runs[method]), "--output", str(tmp_path / "out"), "--no-onnx"]) == 2
    assert words in one_error(capfd.readouterr().err) and not (tmp_path / "out").exists()


def test_a_head_that_computes_otherwise_is_found_out(world, tmp_path, monkeypatch):
    predictor = Predictor(world.runs["CoOp"])
    head = predictor.trainer.exported_head()
    head.bias += 0.5
    monkeypatch.setattr(predictor.trainer, "exported_head", lambda: head)
    with pytest.raises(UserError, match="the exported logits differ by 0.5 from those of CoOp, so nothing is written"):
        exporting.export(predictor, tmp_path / "out", onnx=False)
    assert not (tmp_path / "out").exists()


def test_class_features_that_depend_on_the_image_are_found_out(world, monkeypatch):
    """By a few rows: a method such as CoCoOp encodes prompts for each of them."""
    trainer, rows = Predictor(world.runs["CoOp"]).trainer, []
    own = trainer.logits

    def shifted(features, prepared):
        rows.append(len(features))
        return own(features, prepared) * features[:, :1]

    monkeypatch.setattr(trainer, "logits", shifted)
    with pytest.raises(UserError, match="CoOp's logits aren't a list of class features times the image's"):
        trainer.exported_head()
    assert sum(rows) == 3
