"""A run on the Hub and back: against a stand-in on this machine."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from hub_server import running

from basics import UserError
from inference import Predictor
from inference.hub import card, without_places

PROJECT = pathlib.Path(__file__).parents[2]
NAME = "someone/eurosat-coop"


@pytest.fixture
def hub():
    with running() as server:
        yield server


@pytest.fixture
def call(hub, tmp_path):
    """Runs the command line against the stand-in: (exit status, output, errors)."""

    def command(*words, **environment):
        known = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_x", **environment}
        known = {name: value for name, value in known.items() if value is not None}
        line = [sys.executable, "-m", "inference.hub", *map(str, words)]
        done = subprocess.run(line, cwd=PROJECT, env=known, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return command


def test_a_run_predicts_the_same_after_push_and_pull(world, call, hub, tmp_path):
    run, target = world.runs["CoOp"], tmp_path / "pulled"
    status, out, err = call("push", run, NAME, "--private")
    assert status == 0, err
    assert out.startswith("pushed: ") and hub.private[NAME]
    files = hub.repositories[NAME]
    assert sorted(files) == ["README.md", "files.json", "prompt_learner/model.pth.tar-1", "results.json"]
    assert str(run.parent) not in files["results.json"].decode()
    status, out, err = call("pull", NAME, target, HF_TOKEN=None)
    assert status == 0, err
    assert "CoOp on EuroSAT, 10 classes" in out and sorted(os.listdir(target)) == sorted({f.split("/")[0] for f in files})
    weights = ["MODEL.BACKBONE.PATH", str(run.parent / "tiny.pt")]
    images = [str(image) for image in world.images[:2]]
    assert Predictor(target, overrides=weights)(images) == Predictor(run)(images)


@pytest.mark.parametrize("path", ["results.json", "prompt_learner/model.pth.tar-1"])
def test_a_changed_file_is_refused(world, call, hub, tmp_path, path):
    call("push", world.runs["CoOp"], NAME)
    hub.repositories[NAME][path] += b" "
    status, _, err = call("pull", NAME, tmp_path / "pulled")
    assert status == 2 and f"{path} isn't the file that was pushed" in err and not (tmp_path / "pulled").exists()


@pytest.mark.parametrize("path", ["../evil.py", "/etc/passwd", "x/__init__.py", "resume/epoch-1.pt"])
def test_other_files_are_not_fetched(world, call, hub, tmp_path, path):
    call("push", world.runs["CoOp"], NAME)
    files = hub.repositories[NAME]
    listed = json.loads(files["files.json"])
    files["files.json"] = json.dumps({**listed, "sha256": {path: "0" * 64, **listed["sha256"]}}).encode()
    status, _, err = call("pull", NAME, tmp_path / "pulled")
    assert status == 2 and "is no file of a run" in err and not (tmp_path / "pulled").exists()
    assert not any(asked.endswith(path) for asked in hub.asked)


def test_what_cannot_be_is_one_line(world, call, hub, tmp_path):
    def refused(*words, **environment):
        status, out, err = call(*words, **environment)
        assert status == 2 and "Traceback" not in err, err
        return err

    assert "no such repository" in refused("pull", "someone/else", tmp_path / "pulled")
    hub.repositories["someone/other"] = {"README.md": b""}
    assert "not a run that was pushed from here" in refused("pull", "someone/other", tmp_path / "pulled")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "isn't empty" in refused("pull", NAME, tmp_path / "full")
    assert "has no weights" in refused("push", world.runs["ZeroshotCLIP"], NAME)
    assert "no weights of epoch 7 to push; there are epochs 1" in refused("push", world.runs["CoOp"], NAME, "--load-epoch", 7)
    assert "HF_TOKEN" in refused("push", world.runs["CoOp"], NAME, HF_TOKEN=None)
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "can't be reached" in refused("push", world.runs["CoOp"], NAME, **nobody)
    assert "can't be reached" in refused("pull", NAME, tmp_path / "pulled", **nobody)


def test_places_of_this_machine_stay_here(world):
    results = json.loads((world.runs["MoCoOp"] / "results.json").read_text())
    text = json.dumps(without_places(results))
    assert str(world.runs["MoCoOp"].parent) in json.dumps(results) and str(world.runs["MoCoOp"].parent) not in text
    assert without_places(results)["fingerprint"] == results["fingerprint"]
    assert "MoCoOp on EuroSAT" in card(results, NAME) and NAME in card(results, NAME)


def test_an_unfinished_run_is_not_pushed(tmp_path):
    from inference.hub import push

    (tmp_path / "log.txt").touch()
    with pytest.raises(UserError, match="unfinished"):
        push(tmp_path, NAME)
