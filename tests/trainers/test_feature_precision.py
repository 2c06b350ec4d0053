"""Methods on frozen features in lower precisions: the towers compute in them, what is learned stays in fp32."""

import pytest
import torch

from tests.trainers.test_trainers import METHODS, learned

CASES = {
    "TaskRes": ("TaskRes",),
    "CLIP_Adapter": ("CLIP_Adapter",),
    "CLAP": ("ADAPTER",),
    "ClipA": ("ADAPTER", "TRAINER.ADAPTER.INIT", "ClipA"),
    "TipA": ("ADAPTER", "TRAINER.ADAPTER.INIT", "TipA-f-"),
}
SECTIONS = {"TaskRes": "TaskRes", "CLIP_Adapter": "CLIP_ADAPTER", "ADAPTER": "ADAPTER"}


@pytest.mark.parametrize("precision", ["bf16", "amp"])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_near_those_of_whole_numbers(case, precision, make_trainer):
    method, *options = CASES[case]
    images = torch.randn(4, 3, 32, 32)
    logits = {}
    for prec in ("fp32", precision):
        key = f"TRAINER.{SECTIONS[method]}.PREC"
        trainer = make_trainer(method, METHODS[method], key, prec, "TRAINER.ADAPTER.VIEWS", 2, *options, out=prec)
        trainer.train()
        assert all(value.dtype == torch.float32 for value in learned(trainer).values())
        assert trainer.clip.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "amp": torch.float16}[prec]
        logits[prec] = trainer.model_inference(images)
    difference = (logits[precision] - logits["fp32"]).norm() / logits["fp32"].norm()
    assert difference < {"bf16": 0.15, "amp": 0.03}[precision]
