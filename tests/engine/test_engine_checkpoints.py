"""Published files are read without running code from them; damaged, hostile and foreign ones are clear errors."""

import io
import os
import pickle

import pytest
import torch
from torch import nn

from dassl.data.datasets import Datum
from dassl.engine.checkpoint import learned_state, load_learned_state
from dassl.utils import (
    DamagedFileError,
    UserError,
    atomic_write,
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    safe_pickle_load,
    save_checkpoint,
)

PICKLED_DATUM = ("dassl.data.datasets.base_dataset", "Datum")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Unknown:
    """A class that a reader doesn't know; unpickling it would call __setstate__."""

    def __setstate__(self, state):
        raise AssertionError("code of the checkpoint was run")


def test_published_checkpoint(golden_file):
    checkpoint = load_checkpoint(golden_file("published/coop_base_seed1_model.pth.tar-10"))
    assert checkpoint["epoch"] == 10
    assert set(checkpoint["state_dict"]) == {"ctx", "token_prefix", "token_suffix"}
    assert checkpoint["state_dict"]["ctx"].shape == (4, 64)
    assert checkpoint["optimizer"]["param_groups"][0]["momentum"] == 0.9
    # the scheduler within is not a scheduler any more
    assert not isinstance(checkpoint["scheduler"]["successor"], torch.optim.lr_scheduler.LRScheduler)


def test_published_fewshot_pickle(golden_file):
    data = safe_pickle_load(golden_file("published/shot_4-seed_1.pkl"), {PICKLED_DATUM: Datum})
    assert len(data["train"]) == 40
    assert data["train"][0].impath == "/data/eurosat/2750/AnnualCrop/AnnualCrop_27.jpg"
    assert (data["train"][0].label, data["train"][0].classname) == (0, "Annual Crop Land")


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_checkpoint_is_refused(tmp_path, zipped):
    target = tmp_path / "PWNED"
    path = tmp_path / "model.pth.tar-1"
    torch.save({"state_dict": {}, "epoch": 1, "x": Hostile(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="model.pth.tar-1.*refused.*system"):
        load_checkpoint(str(path))
    assert not target.exists()


def test_hostile_pickles_are_refused(tmp_path):
    target = tmp_path / "PWNED"
    path = tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(pickle.dumps({"train": [Hostile(target)]}))
    with pytest.raises(UserError, match="shot_1-seed_1.pkl.*refused.*system"):
        safe_pickle_load(path, {PICKLED_DATUM: Datum})
    with pytest.raises(UserError, match="refused"):
        load_checkpoint(str(path))
    path.write_bytes(pickle.dumps({"train": [getattr]}))
    with pytest.raises(UserError, match="refused.*getattr"):
        safe_pickle_load(path, {PICKLED_DATUM: Datum})
    assert not target.exists()


def test_unknown_classes_become_inert(tmp_path):
    path = tmp_path / "model.pth.tar-1"
    unknown = Unknown()
    unknown.last_epoch = 3
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 1, "scheduler": unknown}, path)
    checkpoint = load_checkpoint(str(path))
    assert torch.equal(checkpoint["state_dict"]["a"], torch.ones(2))
    assert checkpoint["scheduler"].state == {"last_epoch": 3}


def test_damaged_checkpoints_are_named(tmp_path, golden_file):
    whole = golden_file("published/coop_base_seed1_model.pth.tar-10").read_bytes()
    path = tmp_path / "model.pth.tar-10"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    for data in (b"", b"hello", whole[:-20], whole[:5000], bytes(flipped), buffer.getvalue()):
        path.write_bytes(data)
        with pytest.raises(DamagedFileError) as e:
            load_checkpoint(str(path))
        assert str(path) in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(str(tmp_path / "nowhere"))


def test_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        with atomic_write(str(path), "w") as file:
            file.write("new")
            raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_save_and_resume_functions(tmp_path, capsys):
    model = nn.Linear(2, 1)
    optim = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optim.step()
    state = {"state_dict": model.state_dict(), "epoch": 3, "optimizer": optim.state_dict(), "scheduler": None}
    save_checkpoint(state, str(tmp_path), is_best=True)
    assert f"Checkpoint saved to {tmp_path}/model.pth.tar-3\n" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model-best.pth.tar", "model.pth.tar-3"]
    torch.load(tmp_path / "model.pth.tar-3", weights_only=True)
    other = nn.Linear(2, 1)
    assert resume_from_checkpoint(str(tmp_path), other, torch.optim.SGD(other.parameters(), lr=0.1)) == 3
    assert torch.equal(other.weight, model.weight)


class Frozen(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.clip = nn.Linear(50, 50).requires_grad_(False)
        self.ctx = nn.Parameter(torch.randn(3, width))
        self.register_buffer("count", torch.zeros(1))


def test_only_what_is_learned_is_saved():
    model = Frozen()
    assert set(learned_state(model)) == {"ctx", "count"}
    assert len(learned_state(Frozen().requires_grad_(False))) == 4  # a teacher, registered in order to be saved
    other = Frozen()
    load_learned_state(other, learned_state(model), "file")
    assert torch.equal(other.ctx, model.ctx)


@pytest.mark.parametrize(
    "state, expected",
    [
        ({"ctx": torch.zeros(4, 2), "count": torch.zeros(1)}, ["ctx", "(4, 2)", "(3, 2)"]),
        ({"count": torch.zeros(1)}, ["lacks ctx"]),
        ({"ctx": torch.zeros(3, 2), "ctxx": torch.zeros(1)}, ["ctxx", "did you mean ctx"]),
    ],
)
def test_states_that_do_not_fit_are_errors(state, expected):
    with pytest.raises(UserError) as e:
        load_learned_state(Frozen(), state, "some/file")
    for part in ["some/file", *expected]:
        assert part in str(e.value)


def test_pretrained_weights(tmp_path, capsys):
    model = Frozen()
    path = str(tmp_path / "w.pth")
    torch.save({"state_dict": {"module.ctx": torch.ones(3, 2), "count": torch.zeros(9)}}, path)
    load_pretrained_weights(model, path)
    assert torch.equal(model.ctx.detach(), torch.ones(3, 2))
    assert "discarded due to unmatched keys or size: ['count']" in capsys.readouterr().out
    torch.save({"other": torch.ones(1)}, path)
    with pytest.raises(UserError, match="no weight in it fits"):
        load_pretrained_weights(model, path)
