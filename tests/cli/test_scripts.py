"""The scripts end to end on a miniature EuroSAT: folders, logs, results, skipping, resuming, other folders."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import train
from reproduce import single
from reproduce.__main__ import main
from tests.cli.conftest import PROJECT


@pytest.fixture(scope="module")
def shell(miniature, tmp_path_factory):
    """Function: script name, arguments, environment -> finished process; started in an empty folder, relative OUT."""
    folder = tmp_path_factory.mktemp("elsewhere")
    clean = {k: v for k, v in os.environ.items() if k not in ("TRAINER", "CFG", "SHOTS", "SOURCE")}
    data = os.path.relpath(miniature.data, folder)

    def run(script, *words, start=subprocess.run, **environment):
        environment = {
            **clean,
            "DATA": data,
            "OUT": "out",
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "SHOTS": "4",
            **environment,
        }
        command = ["bash", str(PROJECT / "scripts" / f"{script}.sh"), *words]
        return start(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    run.out = folder / "out"
    return run


@pytest.fixture(scope="module")
def trained(shell, miniature):
    """CoOp's finished training run on the base classes: its folder."""
    done = shell("base2new_train", "eurosat", "1", *miniature.pairs, TRAINER="CoOp")
    assert done.returncode == 0, done.stderr
    return shell.out / "base2new/train_base/eurosat/shots_4/CoOp/vit_b16_ctxv1/seed1"


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_training_leaves_what_upstream_leaves(trained):
    assert (trained / "prompt_learner" / "model.pth.tar-2").is_file()
    assert (trained / "prompt_learner" / "checkpoint").read_text().strip() == "model.pth.tar-2"
    assert any((trained / "tensorboard").iterdir())
    log = (trained / "log.txt").read_text()
    assert log.startswith("***************\n** Arguments **\n***************\nbackbone: \nconfig_file: ")
    assert "\n************\n** Config **\n************\nDATALOADER:\n" in log and "\n  K_TRANSFORMS: 1\n" in log
    printed = log[log.index("\nTRAINER:\n") : log.index("\nUSE_CUDA:")]
    assert re.findall(r"^  ([A-Z]\w+):$", printed, re.MULTILINE) == ["COOP"]  # sections of other methods aren't listed
    assert re.search(r"^epoch \[1/2\] batch \[\d+/2\] time ", log, re.MULTILINE)
    assert re.search(r"^=> result\n\* total: 45\n\* correct: \d+\n\* accuracy: [\d.]+%$", log, re.MULTILINE)


def test_results_of_training(trained):
    result = read(trained)
    assert (result["status"], result["trainer"], result["dataset"]) == ("finished", "CoOp", "EuroSAT")
    assert (result["subsample_classes"], result["shots"], result["seed"], result["epochs"]) == ("base", 4, 1, 2)
    assert len(result["classnames"]) == 5 and result["num"]["train_x"] == 20
    assert result["metrics"]["accuracy"] == pytest.approx(100 * result["metrics"]["correct"] / 45)


def test_finished_run_is_skipped_with_its_result(shell, miniature, trained):
    before = read(trained)
    done = shell("base2new_train", "eurosat", "1", *miniature.pairs, TRAINER="CoOp")
    assert done.returncode == 0
    assert f"already finished, accuracy {before['metrics']['accuracy']:.2f}%" in done.stdout
    assert read(trained) == before
    other = shell("base2new_train", "eurosat", "1", "OPTIM.MAX_EPOCH", "3", TRAINER="CoOp")
    assert other.returncode == 2 and "OPTIM.MAX_EPOCH 2 (now 3)" in other.stderr


def test_new_classes_are_tested_with_the_last_epoch(shell, miniature, trained):
    done = shell("base2new_test", "eurosat", "1", *miniature.pairs, TRAINER="CoOp")
    assert done.returncode == 0, done.stderr
    result = read(shell.out / "base2new/test_new/eurosat/shots_4/CoOp/vit_b16_ctxv1/seed1")
    assert result["eval_only"] and result["subsample_classes"] == "new"
    assert not set(result["classnames"]) & set(read(trained)["classnames"])
    summary = subprocess.run(
        [sys.executable, "-m", "reproduce", "summarise", str(shell.out)], cwd=PROJECT, text=True, capture_output=True
    )
    base, new = (r["metrics"]["accuracy"] for r in (read(trained), result))
    row = next(line for line in summary.stdout.split("\n") if line.startswith("eurosat/shots_4/CoOp/vit_b16_ctxv1"))
    assert row.split()[-3:] == [f"{base:.2f}", f"{new:.2f}", f"{2 * base * new / (base + new):.2f}"]


def test_testing_before_training_names_the_command(shell):
    done = shell("base2new_test", "eurosat", "7")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "TRAINER=MoCoOp CFG=vit_b16 SHOTS=4 bash scripts/base2new_train.sh eurosat 7" in done.stderr


@pytest.fixture
def in_process(miniature, tmp_path, monkeypatch):
    """Function: words of `python -m reproduce run` -> exit status; train.py runs in this process, which costs less."""
    for name, value in {"DATA": miniature.data, "OUT": tmp_path, "SHOTS": 4}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("TRAINER", "CFG", "SOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(single, "foreground", lambda command: train.main(command[2:]))
    return lambda *words: main(["run", *words, *miniature.pairs])


def test_mocoop_is_the_default_method(in_process, tmp_path):
    assert in_process("base2new_train", "eurosat", "1") == 0
    assert in_process("base2new_test", "eurosat", "1") == 0
    for part in ("train_base", "test_new"):
        result = read(tmp_path / "base2new" / part / "eurosat/shots_4/MoCoOp/vit_b16/seed1")
        assert result["trainer"] == "MoCoOp" and result["metrics"]["total"] == 45


def test_zero_shot_evaluates_base_new_and_all_classes(in_process, tmp_path):
    assert in_process("zeroshot", "eurosat") == 0
    folder = tmp_path / "zeroshot/eurosat/ZeroshotCLIP/vit_b16"
    totals = [read(folder / classes)["metrics"]["total"] for classes in ("base", "new", "all")]
    assert totals == [45, 45, 90]


def test_zero_shot_in_base_to_new_needs_no_training(in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER", "ZeroshotCLIP")
    assert in_process("base2new_test", "eurosat", "1") == 0
    result = read(tmp_path / "base2new/test_new/eurosat/shots_4/ZeroshotCLIP/vit_b16/seed1")
    assert result["eval_only"] and result["subsample_classes"] == "new"


def test_cross_dataset(in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER", "CoOp")
    monkeypatch.setenv("SOURCE", "eurosat")
    assert in_process("xd_test", "eurosat", "1") == 2
    assert in_process("xd_train", "eurosat", "1") == 0
    assert in_process("xd_test", "eurosat", "1") == 0
    folders = "crossdataset/train/eurosat", "crossdataset/test/eurosat/eurosat"
    trained, tested = (read(tmp_path / f / "shots_4/CoOp/vit_b16_ctxv1/seed1") for f in folders)
    assert trained["metrics"]["accuracy"] == tested["metrics"]["accuracy"] and tested["metrics"]["total"] == 90


def test_stopped_run_is_resumed(shell, miniature):
    words = ("base2new_train", "eurosat", "2", *miniature.pairs, "OPTIM.MAX_EPOCH", "150")
    folder = shell.out / "base2new/train_base/eurosat/shots_4/CoOp/vit_b16_ctxv1/seed2"
    process = shell(*words, start=subprocess.Popen, TRAINER="CoOp")
    deadline = time.monotonic() + 60
    while not list(folder.glob("resume/epoch-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143 and "terminated" in error and "Traceback" not in error
    assert not (folder / "results.json").exists()
    done = shell(*words, TRAINER="CoOp")
    assert done.returncode == 0, done.stderr
    assert "resuming the unfinished run" in done.stdout and "will resume training" in done.stdout
    assert read(folder)["epochs"] == 150
