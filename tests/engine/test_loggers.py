"""Where the numbers of training go: metrics.csv, TensorBoard, Weights & Biases and MLflow, the last two without a network."""

import csv
import os
import sys

import pytest

from basics import UserError


def table(run):
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_number_is_in_the_csv(make_trainer, tmp_path):
    make_trainer("TEST.FINAL_MODEL", "best_val").train()
    rows = table(tmp_path / "run")
    losses = [row for row in rows if row["name"] == "train/loss"]
    assert [(row["epoch"], row["step"]) for row in losses] == [
        (str(e), str(2 * (e - 1) + b)) for e in (1, 2, 3, 4) for b in (0, 1)
    ]
    assert {row["epoch"] for row in rows if row["name"] == "val/accuracy"} == {"1", "2", "3", "4"}
    (last,) = [row for row in rows if row["name"] == "test/accuracy"]
    assert last["epoch"] == "end" and 0 <= float(last["value"]) <= 100
    rates = [float(row["value"]) for row in rows if row["name"] == "train/lr"]
    assert rates[:3] == pytest.approx([1e-5, 2e-2, 2e-2])  # an epoch's last is the next one's, as Dassl has it


def test_csv_of_a_resumed_run_is_that_of_an_undisturbed_one(make_trainer, tmp_path, monkeypatch):
    make_trainer().train()
    undisturbed = (tmp_path / "run" / "metrics.csv").read_bytes()
    out = ("OUTPUT_DIR", str(tmp_path / "other"))
    trainer = make_trainer(*out)
    steps = []

    def stop(batch, step=trainer.forward_backward):
        steps.append(batch)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(batch)

    monkeypatch.setattr(trainer, "forward_backward", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    file = tmp_path / "other" / "metrics.csv"
    assert any(row["epoch"] == "3" for row in table(tmp_path / "other"))
    with open(file, "a") as stream:
        stream.write("3,9,train/lo")  # half a line
    make_trainer(*out).train()
    assert file.read_bytes() == undisturbed
    make_trainer(*out).train()  # finished: it is evaluated once more
    assert file.read_bytes() == undisturbed


def test_tensorboard_is_optional(make_trainer, tmp_path):
    make_trainer("TRAIN.LOGGERS", "none").train()
    assert "tensorboard" not in os.listdir(tmp_path / "run") and table(tmp_path / "run")


@pytest.mark.parametrize("value", ["tensorbord", "wandb wandb", "none wandb", ""])
def test_other_loggers_are_refused(make_trainer, value):
    with pytest.raises(UserError, match="TRAIN.LOGGERS.*tensorboard, wandb, mlflow"):
        make_trainer("TRAIN.LOGGERS", value)


@pytest.mark.parametrize("name, package", [("wandb", "wandb"), ("mlflow", "mlflow-skinny")])
def test_a_library_that_is_missing_is_named(make_trainer, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"TRAIN.LOGGERS {name}.*pip install {package}"):
        make_trainer("TRAIN.LOGGERS", name).train()


def test_mlflow_has_the_numbers_and_the_settings(make_trainer, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_trainer("TRAIN.LOGGERS", "mlflow").train()
    make_trainer("TRAIN.LOGGERS", "mlflow").train()  # finished: the same run of MLflow's
    client = mlflow.MlflowClient(f"file:{tmp_path / 'run' / 'mlflow'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mocoop").experiment_id])
    rows = [row for row in table(tmp_path / "run") if row["name"] == "train/loss"]
    found = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in sorted(found, key=lambda m: m.step)] == [(int(r["step"]), float(r["value"])) for r in rows]
    assert run.data.params["OPTIM.MAX_EPOCH"] == "4" and run.info.status == "FINISHED"


def test_wandb_has_the_numbers_without_a_network(make_trainer, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    make_trainer("TRAIN.LOGGERS", "tensorboard wandb").train()
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    content = written.read_bytes()
    assert b"train/loss" in content and b"test/accuracy" in content and b"OPTIM.MAX_EPOCH" in content
    assert (tmp_path / "run" / "tensorboard").is_dir()
