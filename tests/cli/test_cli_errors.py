"""What a user can mend ends with one readable message, exit status 2, and no traceback."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest

import train

PROJECT = pathlib.Path(train.__file__).parent


@pytest.fixture
def fails(capsys):
    """Function: run train.main; assert a clean failure; returns the message."""

    def run(argv, status=2):
        capsys.readouterr()
        assert train.main(argv) == status
        message = capsys.readouterr().err
        assert "Traceback" not in message
        lines = [line for line in message.rstrip().split("\n") if "Warning" not in line]
        assert lines[-1].startswith("error: ") or status != 2, message
        return lines[-1]

    return run


def test_unknown_trainer_names_the_nearest_and_is_logged(fails, arguments, tmp_path):
    message = fails(arguments(trainer="CoOpp"))
    assert "CoOpp" in message and "CoOp" in message.replace("CoOpp", "")
    assert message in (tmp_path / "run" / "log.txt").read_text()


def test_unknown_key_names_the_nearest(fails, arguments):
    assert "OPTIM.MAX_EPOCH" in fails(arguments("OPTIM.MAX_EPOCHS", "3"))


def test_option_after_the_pairs(fails, arguments):
    assert "--resume" in fails(arguments("--resume", "x"))


def test_value_missing(fails, arguments):
    assert "OPTIM.LR" in fails(arguments("OPTIM.LR"))


def test_missing_config_file_names_the_nearest(fails, arguments):
    folder = PROJECT / "configs" / "trainers" / "CoOp"
    assert str(folder / "vit_b16_ctxv1.yaml") in fails(arguments(config_file=folder / "vit_b16_ctx1.yaml"))
    wrong_folder = folder.parent / "CoOpp" / "vit_b16_ctxv1.yaml"
    assert str(folder / "vit_b16_ctxv1.yaml") in fails(arguments(config_file=wrong_folder))
    message = fails(arguments(dataset_config_file=PROJECT / "configs" / "datasets" / "eurosta.yaml"))
    assert "eurosat.yaml" in message


def test_malformed_config_file_names_the_line(fails, arguments, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("OPTIM:\n  LR: 0.1\n  LRR: 0.2\n")
    message = fails(arguments(config_file=path))
    assert f"{path}, line 3" in message and "OPTIM.LR" in message


def test_unknown_dataset(fails, arguments):
    assert "EuroSAT" in fails(arguments("DATASET.NAME", "EuroSatt"))


def test_missing_data_say_where_they_belong(fails, arguments, tmp_path):
    assert str(tmp_path / "nothing" / "eurosat") in fails(arguments(root=tmp_path / "nothing"))


def test_missing_weight_file(fails, arguments):
    assert "nowhere.pt" in fails(arguments("MODEL.BACKBONE.PATH", "nowhere.pt"))


def test_image_size_that_the_backbone_does_not_take(fails, arguments):
    assert "(224, 224)" in fails(arguments("INPUT.SIZE", "(224, 224)"))


def test_eval_without_a_model(fails, arguments, tmp_path):
    (tmp_path / "empty").mkdir()
    message = fails(arguments(eval_only=True, model_dir=tmp_path / "empty", load_epoch=2))
    assert str(tmp_path / "empty") in message


def test_truncated_checkpoint(fails, arguments, tmp_path):
    assert train.main(arguments(output_dir=tmp_path / "good")) == 0
    (model,) = (tmp_path / "good").glob("*/model.pth.tar-2")
    model.write_bytes(model.read_bytes()[:1000])
    message = fails(arguments(eval_only=True, model_dir=tmp_path / "good", load_epoch=2))
    assert str(model) in message


def test_output_folder_in_use(fails, arguments, tmp_path):
    from dassl.utils import lock_output_dir

    with lock_output_dir(str(tmp_path / "run")):
        assert str(tmp_path / "run") in fails(arguments())
    assert not (tmp_path / "run" / "log.txt").exists()


@pytest.mark.parametrize(
    "error, status, text",
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (train.Terminated(), 143, "terminated"),
        (OSError(errno.ENOSPC, "No space left on device", "out/log.txt"), 2, "no space left on the disk: out/log.txt"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "permission denied: out"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), 2, "DATALOADER.TRAIN_X.BATCH_SIZE"),
        (ModuleNotFoundError("No module named 'yacs'", name="yacs"), 2, "make venv"),
    ],
)
def test_ends_that_are_no_bugs(fails, monkeypatch, error, status, text):
    def end(args):
        raise error

    monkeypatch.setattr(train, "run", end)
    assert text in fails([], status)


def test_a_bug_keeps_its_traceback(monkeypatch):
    def bug(args):
        raise ZeroDivisionError

    monkeypatch.setattr(train, "run", bug)
    with pytest.raises(ZeroDivisionError):
        train.main([])


def test_sigterm_becomes_an_orderly_end(fails, monkeypatch):
    monkeypatch.setattr(train, "run", lambda args: os.kill(os.getpid(), signal.SIGTERM))
    assert "terminated" in fails([], 143)


def test_help_needs_no_engine():
    code = "import sys, train\ntry:\n    train.main(['--help'])\nfinally:\n    assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in (
        "--root",
        "--output-dir",
        "--resume",
        "--seed",
        "--source-domains",
        "--target-domains",
        "--transforms",
        "--config-file",
        "--dataset-config-file",
        "--trainer",
        "--backbone",
        "--head",
        "--eval-only",
        "--model-dir",
        "--load-epoch",
        "--no-train",
        "KEY VALUE",
    ):
        assert option in done.stdout


def test_settings_are_printed_without_escapes(arguments, tmp_path, capsys):
    settings = tmp_path / "own.yaml"
    settings.write_text('DATASET:\n  NAME: EuroSAT\nTRAINER:\n  FEATURE_CACHE: "a\\x1b[31m\\x1b]0;owned\\x07"\n')
    train.main(arguments(dataset_config_file=settings, output_dir=f"{tmp_path}/run\x1b[2J"))
    said = capsys.readouterr()
    assert "owned" in said.out and "\x1b" not in said.out + said.err
