"""A killed run resumes to bit-identical parameters and attributes, from resume points or from saved models."""

import json
import os
import shutil

import pytest
import torch

from dassl.engine import checkpoint
from dassl.utils import UserError, lock_output_dir


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.fixture(autouse=True)
def a_point_after_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "RESUME_POINT_THRIFT", 0)


def state_of(trainer):
    state = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in trainer._models.items()}
    momentum = {name: [s["momentum_buffer"].clone() for s in optim.state.values()] for name, optim in trainer._optims.items()}
    plain = (trainer.steps, trainer.counter, [loss.item() for loss in trainer.history])
    return {**state, "average": trainer.average}, momentum, plain


def assert_identical(a, b):
    for name, values in a[0].items():
        for key, value in values.items():
            assert torch.equal(value, b[0][name][key]), f"{name}.{key}"
    for name, buffers in a[1].items():
        assert all(torch.equal(x, y) for x, y in zip(buffers, b[1][name], strict=True)), f"momentum of {name}"
    assert a[2] == b[2]


def kill_at(trainer, epoch, batch=1):
    """Let the trainer be killed at a batch (counted from 0) of an epoch (counted from 0)."""
    forward_backward = trainer.forward_backward

    def killed(data):
        if (trainer.epoch, trainer.batch_idx) == (epoch, batch):
            raise Killed
        return forward_backward(data)

    trainer.forward_backward = killed
    with pytest.raises(Killed):
        trainer.train()


@pytest.fixture
def undisturbed(make_trainer, tmp_path):
    trainer = make_trainer("OUTPUT_DIR", str(tmp_path / "whole"))
    trainer.train()
    return state_of(trainer)


@pytest.mark.parametrize("epoch, batch", [(0, 1), (1, 0), (2, 1), (3, 1)])
def test_killed_run_resumes_bit_identically(make_trainer, undisturbed, tmp_path, epoch, batch, capsys):
    kill_at(make_trainer(), epoch, batch)
    capsys.readouterr()
    trainer = make_trainer("DATALOADER.NUM_WORKERS", 2)
    trainer.train()
    assert_identical(state_of(trainer), undisturbed)
    out = capsys.readouterr().out
    assert ("will resume training" in out) == (epoch > 0)
    assert f"epoch [{epoch + 1}/4] batch [1/2]" in out and f"epoch [{epoch}/4]" not in out
    assert not (tmp_path / "run" / "resume").exists()


def test_killed_twice_and_in_another_folder(make_trainer, undisturbed, tmp_path):
    kill_at(make_trainer(), 1)
    elsewhere = ["OUTPUT_DIR", str(tmp_path / "second"), "RESUME", str(tmp_path / "run")]
    kill_at(make_trainer(*elsewhere), 2)
    trainer = make_trainer("OUTPUT_DIR", str(tmp_path / "second"))
    trainer.train()
    assert_identical(state_of(trainer), undisturbed)


def test_two_points_are_kept(make_trainer, tmp_path):
    kill_at(make_trainer("OPTIM.MAX_EPOCH", 6), 5)
    assert checkpoint.resume_points(str(tmp_path / "run" / "resume")) == {4, 5}


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip"])
def test_damaged_point_is_passed_over_and_named(make_trainer, undisturbed, tmp_path, damage, capsys):
    kill_at(make_trainer(), 3)
    newest = tmp_path / "run" / "resume" / "epoch-3.pt"
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    newest.write_bytes({"truncate": data[:-100], "empty": b"", "flip": data}[damage])
    capsys.readouterr()
    trainer = make_trainer()
    trainer.train()
    out = capsys.readouterr().out
    assert "Damaged checkpoint passed over" in out and "epoch-3.pt" in out and "Previous epoch: 2" in out
    assert_identical(state_of(trainer), undisturbed)


def test_models_resume_from_the_same_epoch(make_trainer, undisturbed, tmp_path, capsys):
    """Only checkpoints in Dassl's layout are left, and one model's newest is missing or damaged."""
    kill_at(make_trainer("TRAIN.CHECKPOINT_FREQ", 1), 3)
    run = tmp_path / "run"
    shutil.rmtree(run / "resume")
    (run / "adapter" / "model.pth.tar-3").unlink()
    (run / "prompt_learner" / "model.pth.tar-2").write_bytes(b"PK")
    trainer = make_trainer()
    trainer.train()
    out = capsys.readouterr().out
    assert "Previous epoch: 1" in out and "prompt_learner/model.pth.tar-2" in out
    assert_identical(state_of(trainer), undisturbed)


def test_nothing_but_damage_trains_from_scratch_and_says_so(make_trainer, undisturbed, tmp_path, capsys):
    kill_at(make_trainer(), 1)
    (tmp_path / "run" / "resume" / "epoch-1.pt").write_bytes(b"damage")
    trainer = make_trainer()
    trainer.train()
    assert "No undamaged checkpoint found, train from scratch" in capsys.readouterr().out
    assert_identical(state_of(trainer), undisturbed)


def test_files_of_the_user_stay(make_trainer, tmp_path):
    """In the output folder, in its folder of resume points and in a model's, even under names like ours."""
    run = tmp_path / "run"
    kill_at(make_trainer(), 2)
    users = [run / ".notes.tmp", run / "resume" / "notes.txt", run / "resume" / ".mine.tmp", run / "adapter" / ".x.tmp"]
    for file in users:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    with lock_output_dir(str(run)):
        make_trainer().train()
    assert all(file.read_text() == "mine" for file in users)
    assert sorted(os.listdir(run / "resume")) == [".mine.tmp", "notes.txt"]


def test_another_number_of_threads_is_said(make_trainer, tmp_path, capsys):
    kill_at(make_trainer(), 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        make_trainer().train()
    finally:
        torch.set_num_threads(threads)
    assert f"this run was begun with threads {threads} (now {threads + 1}): last bits may differ" in capsys.readouterr().out
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [start["computed_by"]["threads"] for start in starts] == [threads, threads + 1]


def test_finished_run_is_only_evaluated(make_trainer, undisturbed, capsys):
    make_trainer().train()
    capsys.readouterr()
    trainer = make_trainer()
    trainer.train()
    assert "epoch [" not in capsys.readouterr().out
    assert_identical(state_of(trainer), undisturbed)


def test_best_result_survives(make_trainer):
    best_val = ("TEST.FINAL_MODEL", "best_val")
    killed = make_trainer(*best_val)
    kill_at(killed, 2)
    trainer = make_trainer(*best_val)
    trainer.resume_model_if_exist(trainer.output_dir)
    assert trainer.best_result == killed.best_result > 0


def test_checkpoint_of_another_method_or_shape_is_an_error(make_trainer, tmp_path):
    make_trainer().train()
    with pytest.raises(UserError, match=r"weight has the shape \(3, 192\).*needs \(3, 300\)"):
        make_trainer("INPUT.SIZE", "(10, 10)").load_model(str(tmp_path / "run"), epoch=4)
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-4"
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "trainer": "CoCoOp"}, path)
    for attempt in (lambda t: t.train(), lambda t: t.load_model(str(tmp_path / "run"), epoch=4)):
        with pytest.raises(UserError, match="a checkpoint of CoCoOp, not of TinyCoOp"):
            attempt(make_trainer())


def test_points_cost_little(make_trainer, tmp_path, monkeypatch):
    """With the thrift of a real run, the second point waits until writing it is cheap."""
    monkeypatch.setattr(checkpoint, "RESUME_POINT_THRIFT", 10_000)
    kill_at(make_trainer(), 3)
    assert checkpoint.resume_points(str(tmp_path / "run" / "resume")) == {1}
