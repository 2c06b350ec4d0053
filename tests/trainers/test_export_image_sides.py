"""Methods that learn on images: the ONNX file holds their own image side and gives the run's own logits, for any batch."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from basics import UserError
from inference import Predictor
from inference.export import export
from prompting import load_clip
from tests.predict.test_export import WRITES_ONNX
from tests.trainers.test_trainers import METHODS

LEARNED = {  # method: what it learns on images, in the words of its refusals
    "VPT": "prompts", "IVLP": "prompts", "MaPLe": "prompts", "PromptSRC": "prompts", "MultiModalAdapter": "adapters",
    "MMRL": "adapters", "CLIPLoRA": "adapters", "TwoSFS": "layers", "CLIP_Adapter": "head",
}  # fmt: skip


@WRITES_ONNX
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", LEARNED)
def test_onnx_gives_the_runs_own_logits(method, make_trainer, tiny_weights, tmp_path):
    pytest.importorskip("onnxscript")
    import onnxruntime

    extra = {"CLIP_Adapter": ("MODEL.BACKBONE.NAME", "ViT-B/16")}.get(method, ())
    precision = {"MultiModalAdapter": "MMADAPTER"}.get(method, method.upper())
    trainer = make_trainer(method, METHODS[method], *extra, f"TRAINER.{precision}.PREC", "fp32", "OPTIM.LR", 0.05)
    assert LEARNED[method] in trainer.image_learning.value
    trainer.train()
    predictor = Predictor(tmp_path / "run")
    with pytest.raises(UserError, match=f"{method} has an image side of its own, which only the ONNX file can hold"):
        export(predictor, tmp_path / "out", onnx=False)
    export(predictor, tmp_path / "out")
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        expected = predictor.trainer.model_inference(images).numpy()
        frozen = load_clip("ViT-B/16", str(tiny_weights)).encode_image(images).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "classifier.onnx", providers=["CPUExecutionProvider"])
    for part in (slice(0, 1), slice(0, 5)):
        logits, features = session.run(["logits", "features"], {"images": images[part].numpy()})
        np.testing.assert_allclose(logits, expected[part], rtol=1e-3, atol=1e-3)
    about, tensors = (read(tmp_path / "out" / f"classifier.{end}") for read, end in ((_json, "json"), (load_file, "safetensors")))
    again = about["logit_scale"] * features @ tensors["class_features"].T + tensors["bias"]
    np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-3)
    assert about["image_side"] == "learned" and not about["unit_features"]
    assert np.abs(features[:, : frozen.shape[1]] - frozen).max() > 1e-4  # it isn't CLIP's own


def _json(path):
    return json.loads(path.read_text())
