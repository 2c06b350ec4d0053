"""Methods of the family, interrupted after an epoch, end with the bits of an uninterrupted run: sums, dropout, stages."""

import json

import pytest
import torch

from tests.trainers.test_trainers import METHODS, interrupted, learned

OPTIONS = {
    "PromptSRC": ("TRAINER.PROMPTSRC.GPA_MEAN", 2, "TRAINER.PROMPTSRC.GPA_STD", 1),  # every epoch weighs
    "MaPLe": (),
    "MMRL": (),
    "MultiModalAdapter": (),
    "TCP": (),
    "CoOp_ATP": (),
    "ExtrasLinearProbeKgCoOp": (),
    "TipAdapterF": ("TRAINER.TIPADAPTER.SEARCH", "published"),
    "CLIPLoRA": ("TRAINER.CLIPLORA.DROPOUT", 0.5),
    "TaskRes": (),
    "CLIP_Adapter": (),
    "ADAPTER": ("TRAINER.ADAPTER.CONSTRAINT", "l2_adaptative", "TRAINER.ADAPTER.VIEWS", 3),
    "TwoSFS": (),  # 60 % of 15 steps are the first stage: it is interrupted there and in the second
}


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("method", OPTIONS)
def test_an_interrupted_run_ends_as_one_that_was_not(method, stop, make_trainer, tmp_path):
    options = (*OPTIONS[method], "OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1)
    make = lambda out: make_trainer(method, METHODS[method], *options, out=out)  # noqa: E731
    whole = make("whole")
    whole.train()
    half = make("half")
    interrupted(half, stop)
    again = make("half")
    again.train()
    assert again.start_epoch == stop
    straight, resumed = learned(whole), learned(again)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    metrics = [json.loads((tmp_path / out / "results.json").read_text())["metrics"] for out in ("whole", "half")]
    assert metrics[0] == metrics[1]
