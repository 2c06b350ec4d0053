"""The demo's job with train.py replaced by a function that writes results: order, reuse, failure, table."""

import json
import os
import pathlib
import signal
import sys
import threading

import pytest

from reproduce import demo, processes, warm
from reproduce.__main__ import main

ACCURACY = {"base": 80.0, "new": 60.0}


@pytest.fixture
def fake_training(monkeypatch, tmp_path):
    """Every run finishes at once, except trainers named in `broken`; returns (commands run, broken)."""
    commands, broken = [], set()

    def run(self, command):
        option = {name: command[command.index(name) + 1] for name in ("--trainer", "--seed", "--output-dir")}
        commands.append(command)
        if option["--trainer"] in broken:
            return 2, "\n".join(f"line {n}" for n in range(100)) + "\nerror: no such file: weights.pt\n"
        folder = pathlib.Path(option["--output-dir"])
        folder.mkdir(parents=True)
        accuracy = ACCURACY[command[command.index("DATASET.SUBSAMPLE_CLASSES") + 1]] + int(option["--seed"])
        (folder / "results.json").write_text(
            json.dumps(
                {"status": "finished", "metrics": {"accuracy": accuracy}, "epochs": 50, "config": {}, "seconds": {"train": 2.5}}
            )
        )
        return 0, ""

    monkeypatch.setattr(processes.Background, "run", run)
    monkeypatch.setattr(warm.Warm, "run", run)
    monkeypatch.setattr(demo, "make_sets", lambda *_: None)
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return commands, broken


def test_demo_makes_every_run_and_prints_one_table(fake_training, capsys):
    commands, _ = fake_training
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert len(commands) == 2 * 2 * (1 + 3 + 3)  # datasets x (base, new) x (zero-shot, CoOp and MoCoOp with 3 seeds)
    assert "28 runs in" in out and "0 of them finished before" in out
    rows = {line.split()[0]: line.split()[1:] for line in out.split("\n")[-4:] if line}
    assert rows["CoOp"] == ["82.0", "62.0", "70.6", "2.5"] * 2  # mean over seeds 1, 2, 3
    assert rows["ZeroshotCLIP"] == ["81.0", "61.0", "69.6", "-"] * 2


def test_second_demo_reuses_finished_runs(fake_training, capsys):
    commands, _ = fake_training
    main(["demo", "--datasets", "digits", "--methods", "CoOp", "--seeds", "1"])
    before = len(commands)
    assert main(["demo", "--datasets", "digits", "--methods", "CoOp", "--seeds", "1", "2"]) == 0
    assert len(commands) == before + 2
    out = capsys.readouterr().out
    assert "reused  CoOp digits base seed 1: 81.0%" in out and "2 of them finished before" in out


def test_failed_run_shows_its_tail_and_the_rest_goes_on(fake_training, capsys):
    commands, broken = fake_training
    broken.add("CoOp")
    assert main(["demo", "--seeds", "1"]) == 1
    out = capsys.readouterr().out
    assert "FAILED  CoOp digits base seed 1: exit status 2" in out
    assert "error: no such file: weights.pt" in out and "line 99" in out and "line 5\n" not in out
    rows = {line.split()[0]: line.split()[1:] for line in out.split("\n") if line and line.split()[0] in demo.METHODS}
    assert rows["CoOp"] == ["-"] * 8 and rows["MoCoOp"][:2] == ["81.0", "61.0"]


def test_smoke_run_keeps_its_results_apart(fake_training, tmp_path):
    commands, _ = fake_training
    main(["demo", "--epochs", "1", "--seeds", "1", "--methods", "CoOp", "--datasets", "digits"])
    assert commands[0][-2:] == ["OPTIM.MAX_EPOCH", "1"]
    assert (tmp_path / "out" / "epochs_1" / "base2new").is_dir()


def test_unknown_method_is_an_error_before_anything_runs(fake_training, capsys):
    commands, _ = fake_training
    assert main(["demo", "--methods", "CoOpp"]) == 2
    assert "did you mean CoOp" in capsys.readouterr().err and not commands


def test_background_processes_end_when_stopped():
    background = processes.Background(dict(os.environ), ".")
    ends = []
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    thread = threading.Thread(target=lambda: ends.append(background.run(command)))
    thread.start()
    while not background.live:
        pass
    background.stop()
    thread.join(timeout=10)
    assert ends and ends[0][0] == 128 + signal.SIGTERM
    assert background.run(command) == (128 + signal.SIGTERM, "")


def test_foreground_passes_the_exit_status_on():
    assert processes.foreground([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert processes.foreground([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_built_in_sets_are_made_and_trouble_is_left_to_the_runs(tmp_path):
    (tmp_path / "letters_dark").mkdir()
    (tmp_path / "letters_dark" / "mine.txt").write_text("in the way")
    demo.make_sets(["eurosat", "letters_dark", "letters_blurry"], tmp_path)
    assert (tmp_path / "letters_blurry" / "builtin.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["letters_blurry", "letters_dark"]
    assert [p.name for p in (tmp_path / "letters_dark").iterdir()] == ["mine.txt"]
