"""Weights that a process which forks runs keeps for them: which, how long, and that a run with them is the same."""

import os

import pytest
import torch

import prompting.clip
from basics import inherited
from prompting import load_clip
from tests.golden.tiny_clip import state_dict

FILES = {"ViT-B/16": "tiny.pt", "local-dir:models/builtin": ""}


@pytest.fixture
def reports(monkeypatch):
    """A process that forks and its run in one: what the run makes, it reports to itself."""
    made = inherited.Reports()
    monkeypatch.setattr(inherited, "_thing", [])
    monkeypatch.setattr(inherited, "_report", made.descriptor)
    return made


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.pt"
    torch.save(state_dict("tiny_clip_vit"), path)
    os.utime(path, (1, 1))
    return path


def load(name, weights, monkeypatch):
    """(CLIP, the next random number) of a run."""
    monkeypatch.setattr(prompting.clip.kept, "SETTLED", -1)  # the file was written just now
    torch.manual_seed(3)
    return load_clip(name, str(weights) if FILES[name] else ""), torch.rand(()).item()


@pytest.mark.parametrize("name", FILES)
def test_a_run_with_inherited_weights_is_the_same(name, reports, weights, monkeypatch, capsys):
    plain, number = load(name, weights, monkeypatch)
    said = capsys.readouterr().out
    assert reports.wanted() is None  # once may be the only time
    load(name, weights, monkeypatch)
    reports.make(reports.wanted())
    capsys.readouterr()

    read = prompting.clip.read_clip
    monkeypatch.setattr(prompting.clip, "read_clip", lambda path: pytest.fail("reads the file"))
    clip, same_number = load(name, weights, monkeypatch)
    assert same_number == number and capsys.readouterr().out == said and clip.weights == plain.weights
    assert all(torch.equal(a, b) for a, b in zip(clip.state_dict().values(), plain.state_dict().values(), strict=True))

    monkeypatch.setattr(prompting.clip, "read_clip", read)  # they are given away once
    again, _ = load(name, weights, monkeypatch)
    assert again.visual is not clip.visual


def test_weights_are_let_go_of_when_two_runs_have_read_others(reports, weights, monkeypatch):
    first, second = FILES
    for _ in range(2):
        load(first, weights, monkeypatch)
    reports.make(reports.wanted())
    kept = inherited._thing[0]
    load(second, weights, monkeypatch)
    assert reports.wanted() is None and inherited._thing[0] == kept  # runs that take turns
    load(second, weights, monkeypatch)
    reports.make(reports.wanted())
    assert inherited._thing[0] != kept and reports.wanted() is None


def test_a_file_that_has_changed_is_read_again(reports, weights, monkeypatch):
    for _ in range(2):
        load("ViT-B/16", weights, monkeypatch)
    reports.make(reports.wanted())
    state = state_dict("tiny_clip_vit")
    state["logit_scale"] = state["logit_scale"] + 0.5
    torch.save(state, weights)
    clip, _ = load("ViT-B/16", weights, monkeypatch)
    assert clip.logit_scale == pytest.approx(float(state["logit_scale"].exp()))


def test_what_cannot_be_made_is_not_tried_for_each_run(reports, weights, monkeypatch):
    for _ in range(2):
        load("ViT-B/16", weights, monkeypatch)
    weights.unlink()
    with pytest.raises(Exception, match="tiny.pt"):
        reports.make(reports.wanted())
    assert reports.wanted() is None and inherited._thing == []
