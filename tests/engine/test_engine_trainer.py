"""A trainer written for Dassl trains unchanged: hooks, log lines, results, evaluation, errors."""

import contextlib
import json
import math
import os
import re
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from tiny_method import TinyCoOp, TinyPNG
from torch import nn

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, SimpleNet, TrainerXU, build_trainer
from dassl.evaluation import Classification, build_evaluator
from dassl.metrics import compute_accuracy, compute_distance_matrix
from dassl.optim import build_optimizer
from dassl.utils import Registry, UserError, lock_output_dir, setup_logger

NUMBER = r"-?\d+\.\d{4}"
EPOCH_LINE = re.compile(
    r"epoch \[\d+/\d+\] batch \[\d+/\d+\] time \d+\.\d{3} \(\d+\.\d{3}\) data \d+\.\d{3} \(\d+\.\d{3}\) "
    rf"(\w+ {NUMBER} \({NUMBER}\) )+lr \d\.\d{{4}}e[-+]\d\d eta (\d+ days?, )?\d+:\d\d:\d\d"
)
RESULT = re.compile(
    r"Evaluate on the \*test\* set\n=> result\n\* total: [\d,]+\n\* correct: [\d,]+\n\* accuracy: \d+\.\d%\n"
    r"\* error: \d+\.\d%\n\* macro_f1: \d+\.\d%\n=> per-class result\n"
    r"(\* class: \d+ \(.+\)\ttotal: [\d,]+\tcorrect: [\d,]+\tacc: \d+\.\d%\n)+\* average: \d+\.\d%\n"
    r"Confusion matrix is saved to \S+/cmat\.pt\n"
)
END = re.compile(r"Checkpoint saved to \S+/model\.pth\.tar-\d+\nFinish training\nDeploy the last-epoch model\nEvaluate")


@contextlib.contextmanager
def logged(folder):
    """Log what is printed to folder/log.txt, as train.py does; gives the function that returns it."""
    stdout = sys.stdout
    setup_logger(str(folder))
    try:
        yield lambda: (folder / "log.txt").read_text()
    finally:
        sys.stdout.close()
        sys.stdout = stdout


def test_log_has_the_published_lines(make_trainer, tmp_path, golden_file):
    with logged(tmp_path / "run") as log:
        make_trainer("TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True).train()
    published = (golden_file("published/logs/train_base/seed1/log.txt")).read_text()
    for text, epochs, batches in ((published, 10, 2), (log(), 4, 2)):
        lines = [line for line in text.splitlines() if line.startswith("epoch [")]
        assert len(lines) == epochs * batches
        assert all(EPOCH_LINE.fullmatch(line) for line in lines)
        assert RESULT.search(text) and END.search(text)
        start = r"^No checkpoint found, train from scratch\nInitialize tensorboard \(log_dir=\S+\)$"
        assert re.search(start, text, re.M)
        assert re.search(r"^Elapsed: 0:00:0\d$", text, re.M)
    rates = re.findall(r"epoch \[(\d)/4\] batch \[1/2\] .* lr (\S+)", log())
    assert rates == [("1", "1.0000e-05"), ("2", "2.0000e-02"), ("3", "1.7071e-02"), ("4", "1.0000e-02")]


def test_log_file_stays_plain(tmp_path):
    with logged(tmp_path) as log:
        print("one\r\x1b[32mtwo\x1b[0m")
        print("half ", end="")
        sys.stdout.write("line\n  0%|    | 0/3\r100%|####| 3/3\n")
    assert log() == "two\nhalf line\n100%|####| 3/3\n"


def test_files_of_a_run(make_trainer, tmp_path):
    make_trainer("TRAIN.CHECKPOINT_FREQ", 3).train()
    run = tmp_path / "run"
    assert sorted(os.listdir(run)) == ["adapter", "metrics.csv", "prompt_learner", "results.json", "run.json", "tensorboard"]
    assert sorted(os.listdir(run / "adapter")) == ["checkpoint", "model.pth.tar-3", "model.pth.tar-4"]
    assert (run / "adapter" / "checkpoint").read_text() == "model.pth.tar-4\n"
    saved = torch.load(run / "prompt_learner" / "model.pth.tar-4", weights_only=True)
    assert set(saved["state_dict"]) == {"weight", "bias", "mean_pixel"}
    assert (saved["epoch"], saved["trainer"], saved["extras"]["steps"]) == (4, "TinyCoOp", 8)
    assert os.listdir(run / "tensorboard")


def test_results_json(make_trainer, tmp_path):
    trainer = make_trainer("TEST.FINAL_MODEL", "best_val")
    trainer.train()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results) == {
        "version", "status", "trainer", "dataset", "subsample_classes", "shots", "seed", "backbone", "split", "metrics",
        "classnames", "eval_only", "epochs", "config", "versions", "data_hash", "num", "seconds", "peak_memory_mb",
        "device", "threads", "finished_at", "code", "folder", "fingerprint", "made_from", "weights",
    }  # fmt: skip
    assert (results["version"], results["status"], results["split"]) == (1, "finished", "test")
    assert (results["trainer"], results["dataset"], results["seed"], results["epochs"]) == ("TinyCoOp", "TinyPNG", 1, 4)
    assert results["classnames"] == ["red thing", "green thing", "blue thing"]
    assert results["num"] == {"train_x": 12, "val": 6, "test": 15}
    metrics = results["metrics"]
    assert metrics["total"] == 15
    assert metrics["accuracy"] == 100 * metrics["correct"] / 15
    assert metrics["error_rate"] == pytest.approx(100 - metrics["accuracy"])
    assert sum(metrics["per_class_accuracy"]) / 3 == pytest.approx(metrics["accuracy"])
    assert results["config"]["INPUT"]["SIZE"] == [8, 8]
    assert set(results["seconds"]) == {"train", "test", "total"}
    assert 0 < results["seconds"]["train"] < results["seconds"]["total"]
    assert results["peak_memory_mb"] > 1 and re.fullmatch("[0-9a-f]{64}", results["data_hash"])
    assert not results["eval_only"]


def test_eval_only_reproduces_the_result(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.train()
    trained = json.loads((tmp_path / "run" / "results.json").read_text())
    fresh = make_trainer("OUTPUT_DIR", str(tmp_path / "eval"), "SEED", 1)
    fresh.load_model(str(tmp_path / "run"), epoch=4)
    assert fresh.steps == 8
    fresh.test()
    evaluated = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert evaluated["metrics"] == trained["metrics"]
    assert evaluated["eval_only"] and evaluated["data_hash"] == trained["data_hash"]
    fresh.load_model(str(tmp_path / "run"))  # no best model: the last one
    with pytest.raises(UserError, match="epochs 4"):
        fresh.load_model(str(tmp_path / "run"), epoch=7)


def test_validation_during_training_writes_no_results(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer("TEST.FINAL_MODEL", "best_val")
    seen = []
    monkeypatch.setattr(trainer, "before_epoch", lambda: seen.append((tmp_path / "run" / "results.json").exists()))
    trainer.train()
    assert seen == [False] * 4
    assert (tmp_path / "run" / "adapter" / "model-best.pth.tar").exists()
    assert trainer.best_result >= 0


def test_non_finite_loss_stops_and_names_the_place(make_trainer, tmp_path):
    trainer = make_trainer("TRAIN.CHECKPOINT_FREQ", 1)

    def before_epoch():
        if trainer.epoch == 2:
            with torch.no_grad():
                trainer.adapter.bias.fill_(math.nan)

    trainer.before_epoch = before_epoch
    with pytest.raises(UserError) as e:
        trainer.train()
    for part in ("not finite", "epoch 3, batch 1", "1.7071e-02", "epoch 2 in", str(tmp_path / "run")):
        assert part in str(e.value)
    saved = torch.load(tmp_path / "run" / "adapter" / "model.pth.tar-2", weights_only=True)
    assert torch.isfinite(saved["state_dict"]["bias"]).all()
    assert not (tmp_path / "run" / "results.json").exists()


def test_non_finite_loss_is_seen_without_model_backward(make_trainer):
    trainer = make_trainer()
    trainer.forward_backward = lambda batch: {"loss": math.inf}
    with pytest.raises(UserError, match="epoch 1, batch 1"):
        trainer.train()


def test_overridden_test_still_gives_results(make_trainer, tmp_path, monkeypatch):
    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        self.evaluator.reset()
        for batch in self.test_loader:
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(input), label)
        return self.evaluator.evaluate()["accuracy"]

    monkeypatch.setattr(TinyCoOp, "test", test)
    make_trainer().train()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["total"] == 15


def test_labelled_and_unlabelled_batches(make_trainer, monkeypatch, tmp_path):
    class TinyXU(TrainerXU):
        def build_model(self):
            TinyCoOp.build_model(self)
            self.seen = []

        def forward_backward(self, batch_x, batch_u):
            images, labels, unlabelled = self.parse_batch_train(batch_x, batch_u)
            self.seen.append((len(images), len(labels), len(unlabelled)))
            return {"loss": 1.0}

        model_inference = TinyCoOp.model_inference

    class Unlabelled(TinyPNG):
        def __init__(self, cfg):
            super().__init__(cfg)
            self._train_u = self._train_x * 2

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "TinyXU", TinyXU)
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Unlabelled", Unlabelled)
    for count, batches in (("train_x", 2), ("train_u", 4), ("smaller_one", 2)):
        opts = ["TRAINER.NAME", "TinyXU", "DATASET.NAME", "Unlabelled", "TRAIN.COUNT_ITER", count, "OPTIM.MAX_EPOCH", 1]
        trainer = make_trainer(*opts, "TEST.NO_TEST", True, "OUTPUT_DIR", f"{tmp_path}/{count}")
        trainer.train()
        assert trainer.seen == [(5, 5, 5)] * batches


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_amp_api_of_published_trainers_works_without_a_gpu():
    from torch.cuda.amp import GradScaler, autocast

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = nn.Linear(2, 1, device=device)
    optim, scaler = build_optimizer(model, get_cfg_default().OPTIM), GradScaler()
    before = model.weight.clone()
    with autocast():
        loss = model(torch.ones(1, 2, device=device)).sum()
    optim.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optim)
    scaler.update()
    assert not torch.equal(before, model.weight)


def test_evaluation_numbers(make_cfg, capsys, tmp_path):
    cfg = make_cfg("TEST.PER_CLASS_RESULT", True, "TEST.COMPUTE_CMAT", True)
    evaluator = build_evaluator(cfg, lab2cname=dict(enumerate("abc")))
    scores = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 3, 1], [1, 0, 0]])
    evaluator.process(scores[:3], torch.tensor([0, 0, 1]))
    evaluator.process(scores[3:], torch.tensor([1]))
    results = evaluator.evaluate()
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    assert (evaluator.y_true, evaluator.y_pred) == ([0, 0, 1, 1], [0, 1, 1, 0])
    assert results["accuracy"] == results["error_rate"] == results["perclass_accuracy"] == 50.0
    assert results["macro_f1"] == pytest.approx(100 * f1_score([0, 0, 1, 1], [0, 1, 1, 0], average="macro"))
    assert "* class: 1 (b)\ttotal: 2\tcorrect: 1\tacc: 50.0%\n* average: 50.0%" in capsys.readouterr().out
    cmat = torch.load(tmp_path / "run" / "cmat.pt")
    assert cmat.tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]]
    evaluator.reset()
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluator.evaluate()


def test_metrics():
    scores, labels = torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]]), torch.tensor([1, 2])
    top1, top2 = compute_accuracy((scores, "features"), labels, topk=(1, 2))
    assert top1.shape == (1,) and (top1.item(), top2.item()) == (50.0, 100.0)
    a, b = torch.randn(3, 5), torch.randn(4, 5)
    torch.testing.assert_close(compute_distance_matrix(a, b), torch.cdist(a, b) ** 2)
    expected = 1 - torch.cosine_similarity(a[:, None], b[None], dim=-1)
    torch.testing.assert_close(compute_distance_matrix(a, b, "cosine"), expected)


def test_unknown_names(make_cfg):
    with pytest.raises(UserError, match='unknown trainer "TinyCoOpp" .did you mean TinyCoOp'):
        build_trainer(make_cfg("TRAINER.NAME", "TinyCoOpp"))
    with pytest.raises(UserError, match='unknown dataset "TinyPNGs" .did you mean TinyPNG'):
        build_trainer(make_cfg("DATASET.NAME", "TinyPNGs"))
    registry = Registry("THING")
    registry.register(SimpleNet)
    with pytest.raises(UserError, match="defined by .* already"):
        registry.register(SimpleNet)
    assert registry.registered_names() == ["SimpleNet"]


def test_simple_net_and_default_build_model(make_cfg):
    cfg = make_cfg("MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.PRETRAINED", False, "MODEL.HEAD.NAME", "mlp",
                   "MODEL.HEAD.HIDDEN_LAYERS", "(16,)")  # fmt: skip
    net = SimpleNet(cfg, cfg.MODEL, 3).eval()
    scores, features = net(torch.zeros(2, 3, 32, 32), return_feature=True)
    assert scores.shape == (2, 3) and features.shape == (2, 16) and net.fdim == 16
    assert isinstance(net.classifier, nn.Linear)


def test_output_folder_is_locked(tmp_path):
    folder = str(tmp_path / "run")
    with lock_output_dir(folder):
        with pytest.raises(UserError) as e:
            lock_output_dir(folder)
    assert f"output folder in use by another run (pid {os.getpid()})" in str(e.value)
    lock_output_dir(folder).close()


def test_macro_f1_is_scikit_learns():
    """Also with classes that are never predicted and predictions of classes that don't occur."""
    rng = np.random.default_rng(0)
    true, pred = rng.integers(0, 8, 200), rng.integers(2, 11, 200)
    evaluator = Classification(get_cfg_default(), lab2cname={})
    evaluator.process(torch.eye(11)[pred], torch.from_numpy(true))
    expected = 100 * f1_score(true, pred, average="macro", labels=np.unique(true))
    assert evaluator.evaluate()["macro_f1"] == pytest.approx(expected, abs=1e-10)
