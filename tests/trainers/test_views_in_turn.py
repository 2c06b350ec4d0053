"""TaskRes and CLIP-Adapter on a few views of each image, taken in turn: what a run of as many epochs sees, encoded once."""

import pytest
import torch

import dassl.data.data_manager as data_manager
from tests.trainers.test_trainers import METHODS, learned

KEYS = {"TaskRes": "TRAINER.TaskRes.VIEWS", "CLIP_Adapter": "TRAINER.CLIP_ADAPTER.VIEWS"}
OFF = ("TRAINER.FEATURE_CACHE", "", "OPTIM.WARMUP_EPOCH", 0)


@pytest.mark.parametrize("method", KEYS)
def test_as_many_views_as_epochs_are_the_plain_run(method, make_trainer):
    plain = make_trainer(method, METHODS[method], *OFF, out="plain")
    kept = make_trainer(method, METHODS[method], *OFF, KEYS[method], 2, out="kept")
    for trainer in (plain, kept):
        trainer.train()
    for name, value in learned(plain).items():
        torch.testing.assert_close(learned(kept)[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", KEYS)
def test_each_view_is_read_once(method, make_trainer, monkeypatch):
    trainer = make_trainer(method, METHODS[method], *OFF, KEYS[method], 2, "OPTIM.MAX_EPOCH", 5, "DATALOADER.DECODED_MB", 0.0,
                           "TEST.NO_TEST", True)  # fmt: skip
    read, plain = [], data_manager.read_image
    monkeypatch.setattr(data_manager, "read_image", lambda *args: read.append(args[0]) or plain(*args))
    trainer.train()
    assert len(read) == 2 * 20


@pytest.mark.parametrize("method", KEYS)
def test_epochs_take_the_views_in_turn(method, make_trainer):
    trainer = make_trainer(method, METHODS[method], *OFF, KEYS[method], 2, "OPTIM.MAX_EPOCH", 5)
    trainer._table = torch.randn(2, 20, 64)
    seen, step = [], trainer.forward_backward
    trainer.forward_backward = lambda batch: seen.append(batch) or step(batch)
    trainer.train()
    assert len(seen) == 25
    for number, batch in enumerate(seen):
        assert torch.equal(batch["img"], trainer._table[number // 5 % 2][batch["index"]])
