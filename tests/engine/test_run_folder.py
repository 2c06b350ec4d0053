"""A run folder is one run: the same command goes on, another one is refused with what differs and the ways out."""

import json
import shutil

import pytest
import torch
from PIL import Image
from test_engine_resume import a_point_after_every_epoch, assert_identical, kill_at, state_of  # noqa: F401

from basics import UserError
from dassl.engine import run_folder

OTHER_SETTINGS = [
    ("SEED", 2), ("OPTIM.LR", 0.03), ("OPTIM.WEIGHT_DECAY", 0.1), ("OPTIM.NAME", "adam"), ("OPTIM.WARMUP_EPOCH", 2),
    ("DATASET.NUM_SHOTS", 2), ("DATASET.SUBSAMPLE_CLASSES", "new"), ("DATALOADER.TRAIN_X.BATCH_SIZE", 4),
    ("TEST.SPLIT", "val"), ("TEST.FINAL_MODEL", "best_val"), ("INPUT.TRANSFORMS", "('normalize',)"), ("MODEL.BACKBONE.NAME", "x"),
    ("OPTIM.MAX_EPOCH", 3), ("OPTIM.MAX_EPOCH", 8),
]  # fmt: skip
SPEEDS = [
    ("DATALOADER.NUM_WORKERS", 1), ("TRAIN.PRINT_FREQ", 1), ("DATALOADER.TEST.BATCH_SIZE", 7), ("VERBOSE", False),
    ("DATALOADER.DECODED_MB", 0.0), ("TEST.PER_CLASS_RESULT", True),
]  # fmt: skip


@pytest.fixture
def finished(make_trainer, tmp_path):
    """A finished run; its results.json as text."""
    make_trainer().train()
    return (tmp_path / "run" / "results.json").read_text()


@pytest.mark.parametrize("key, value", OTHER_SETTINGS)
@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_another_run_is_refused(make_trainer, tmp_path, key, value, state):
    if state == "finished":
        make_trainer().train()
    else:
        kill_at(make_trainer(), 3)
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file() and p.parent.name != "tensorboard"]
    before = {p: p.read_bytes() for p in files}
    with pytest.raises(UserError) as refused:
        make_trainer(key, value).train()
    text = str(refused.value)
    old = make_trainer().cfg
    for name in key.split("."):
        old = old[name]
    assert f"holds a{'n' * (state != 'finished')} {state} training run" in text and f"{key} " in text
    assert str(value).strip("(',)") in text and "--output-dir" in text and "--fresh" in text and "old values" in text
    assert {p: p.read_bytes() for p in files} == before


@pytest.mark.parametrize("key, value", SPEEDS)
def test_speeds_and_paths_are_no_other_run(make_trainer, finished, tmp_path, key, value, capsys):
    make_trainer(key, value).train()
    out = capsys.readouterr().out
    assert "This training run is finished" in out and "The same as recorded" in out
    assert (tmp_path / "run" / "results.json").read_text() == finished


def change_image(root):
    Image.new("RGB", (14, 12), (9, 9, 9)).save(root / "train_0_1.png")


def change_test_image(root):
    Image.new("RGB", (14, 12), (9, 9, 9)).save(root / "test_2_3.png")


@pytest.mark.parametrize("change, named", [(change_image, "training images"), (change_test_image, "test images")])
def test_other_images_of_the_same_names_are_another_run(make_trainer, image_root, tmp_path, change, named):
    root = shutil.copytree(image_root, tmp_path / "data")
    make_trainer("DATASET.ROOT", str(root)).train()
    make_trainer().train()  # the same images elsewhere: the same run
    change(root)
    with pytest.raises(UserError, match=f"differs in {named} "):
        make_trainer("DATASET.ROOT", str(root)).train()


def test_initial_weights_are_compared_by_their_contents(make_trainer, finished, tmp_path):
    learner = make_trainer()
    torch.save(learner.model.state_dict(), tmp_path / "a.pt")
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
    out = ("OUTPUT_DIR", str(tmp_path / "init"))
    make_trainer("MODEL.INIT_WEIGHTS", str(tmp_path / "a.pt"), *out).train()
    make_trainer("MODEL.INIT_WEIGHTS", str(tmp_path / "b.pt"), *out).train()
    torch.save({k: v + 1 for k, v in learner.model.state_dict().items()}, tmp_path / "b.pt")
    with pytest.raises(UserError, match="differs in initial weights"):
        make_trainer("MODEL.INIT_WEIGHTS", str(tmp_path / "b.pt"), *out).train()


# ---- longer and shorter ----

STEPS = ("OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", "(2, 6)")


def test_a_longer_run_is_exact_or_refused(make_trainer, tmp_path, monkeypatch):
    from tiny_method import TinyCoOp

    straight = make_trainer(*STEPS, "OPTIM.MAX_EPOCH", 8, "OUTPUT_DIR", str(tmp_path / "straight"))
    straight.train()
    make_trainer(*STEPS).train()
    with pytest.raises(UserError, match="OPTIM.MAX_EPOCH 4 .now 8. .this method may use OPTIM.MAX_EPOCH"):
        make_trainer(*STEPS, "OPTIM.MAX_EPOCH", 8).train()
    monkeypatch.setattr(TinyCoOp, "epochs_only_in_schedule", True)
    longer = make_trainer(*STEPS, "OPTIM.MAX_EPOCH", 8)
    kill_at(longer, 6)  # killed on the way: nobody may take the shorter run's results for the longer one's
    assert not (tmp_path / "run" / "results.json").exists() and (tmp_path / "run" / "results-4-epochs.json").exists()
    longer = make_trainer(*STEPS, "OPTIM.MAX_EPOCH", 8)
    longer.train()
    assert_identical(state_of(longer), state_of(straight))
    metrics = [json.loads((tmp_path / n / "results.json").read_text())["metrics"] for n in ("run", "straight")]
    assert metrics[0] == metrics[1]
    with pytest.raises(UserError, match="it has trained 8 epochs already"):
        make_trainer(*STEPS).train()


def test_a_cosine_schedule_says_why(make_trainer, finished, monkeypatch):
    from tiny_method import TinyCoOp

    monkeypatch.setattr(TinyCoOp, "epochs_only_in_schedule", True)
    with pytest.raises(UserError, match="the learning rate of every epoch depends on OPTIM.MAX_EPOCH"):
        make_trainer("OPTIM.MAX_EPOCH", 8).train()


# ---- --resume and --eval-only ----


def resume(tmp_path, source="run", target="second"):
    return ["OUTPUT_DIR", str(tmp_path / target), "RESUME", str(tmp_path / source)]


def test_resumed_elsewhere_and_killed_goes_on_from_there(make_trainer, tmp_path, capsys):
    whole = make_trainer("OUTPUT_DIR", str(tmp_path / "whole"))
    whole.train()
    kill_at(make_trainer(), 1)
    kill_at(make_trainer(*resume(tmp_path)), 3)
    capsys.readouterr()
    again = make_trainer(*resume(tmp_path))
    again.train()
    out = capsys.readouterr().out
    assert f"Found checkpoint at {tmp_path / 'second'}" in out and "Previous epoch: 3" in out
    assert_identical(state_of(again), state_of(whole))


@pytest.mark.parametrize("key, value", [("SEED", 2), ("OPTIM.LR", 0.5)])
def test_resuming_from_another_run_is_refused(make_trainer, tmp_path, key, value):
    kill_at(make_trainer(), 2)
    with pytest.raises(UserError, match=f"run holds an interrupted training run that differs in {key} "):
        make_trainer(key, value, *resume(tmp_path)).train()
    (tmp_path / "run" / "run.json").unlink()  # the checkpoint itself says whose it is
    with pytest.raises(UserError, match=f"epoch-2.pt is a checkpoint of a run that differs in {key} "):
        make_trainer(key, value, *resume(tmp_path)).train()


def test_resume_needs_a_folder_with_a_checkpoint(make_cfg, tmp_path):
    with pytest.raises(UserError, match="--resume: no such folder: .*run"):
        run_folder.check_folders(make_cfg(*resume(tmp_path)), run_folder.TRAINING)
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        run_folder.check_folders(make_cfg(*resume(tmp_path)), run_folder.TRAINING)


def test_evaluation_never_replaces_a_training_run(make_trainer, make_cfg, finished, tmp_path):
    run = str(tmp_path / "run")
    with pytest.raises(UserError, match="holds a training run, whose record an evaluation must not overwrite"):
        make_trainer().evaluate(run)
    with pytest.raises(UserError, match="holds a training run"):
        run_folder.check_folders(make_cfg(), run_folder.EVALUATION, fresh=True)
    trainer = make_trainer()
    trainer.load_model(run)
    with pytest.raises(UserError, match="holds a training run"):
        trainer.test()  # as programs that call the hooks themselves do
    assert (tmp_path / "run" / "results.json").read_text() == finished


def test_what_nobody_has_trained_isnt_evaluated(make_trainer):
    with pytest.raises(UserError, match="TinyCoOp learns: --eval-only needs --model-dir"):
        make_trainer().evaluate()


def test_evaluation_records_what_the_weights_were_trained_with(make_trainer, finished, tmp_path, capsys):
    evaluated = ("OUTPUT_DIR", str(tmp_path / "eval"), "SEED", 5, "DATASET.SUBSAMPLE_CLASSES", "new")
    make_trainer(*evaluated).evaluate(str(tmp_path / "run"))
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    model = results["model"]
    assert (model["folder"], model["epoch"]) == (str(tmp_path / "run"), 4)
    assert model["trained_with"]["SEED"] == 1 and model["trained_with"]["DATASET.SUBSAMPLE_CLASSES"] == "all"
    assert set(model["sha256"]) == {"prompt_learner", "adapter"} and results["seed"] == 5
    assert "WARNING" not in capsys.readouterr().out
    make_trainer(*evaluated).evaluate(str(tmp_path / "run"))  # the same: finished
    assert "This evaluation is finished" in capsys.readouterr().out
    path = tmp_path / "run" / "adapter" / "model.pth.tar-4"
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "state_dict": {k: v + 1 for k, v in saved["state_dict"].items()}}, path)
    with pytest.raises(UserError, match="holds a finished evaluation that differs in evaluated model"):
        make_trainer(*evaluated).evaluate(str(tmp_path / "run"))


def test_other_settings_of_the_model_are_said(make_trainer, finished, tmp_path, capsys):
    make_trainer("OUTPUT_DIR", str(tmp_path / "eval"), "INPUT.INTERPOLATION", "bicubic").evaluate(str(tmp_path / "run"))
    assert "WARNING: evaluated with other settings than the model" in capsys.readouterr().out


# ---- folders of other versions and programs ----


@pytest.mark.parametrize("left", ["results.json", "log.txt", None])
def test_folders_without_a_record(make_trainer, tmp_path, left, capsys):
    trainer = make_trainer()
    trainer.train()
    run = tmp_path / "run"
    for path in run.rglob("model.pth.tar-4"):
        saved = torch.load(path, weights_only=True)
        del saved["identity"]
        torch.save(saved, path)
    (run / "run.json").unlink()
    if left != "results.json":
        (run / "results.json").unlink()
    if left == "log.txt":
        header = "**\n** Config **\n**\n"
        refused = f"{header}{make_trainer('OPTIM.LR', 0.5).cfg}\nCollecting env info ...\nerror: x\n"
        (run / "log.txt").write_text(f"{header}{trainer.cfg}\nCollecting env info ...\nepoch [1/4] batch [1/2] time\n{refused}")
    capsys.readouterr()
    make_trainer().train()
    assert ("nothing in" in capsys.readouterr().out) == (left is None)
    if left:
        (run / "run.json").unlink(missing_ok=True)
        with pytest.raises(UserError, match=r"differs in OPTIM.LR 0.02 \(now 0.5\)"):
            make_trainer("OPTIM.LR", 0.5).train()


def test_an_unrecorded_optimiser_brings_no_settings_along(make_trainer, tmp_path):
    kill_at(make_trainer(), 2)
    (tmp_path / "run" / "run.json").unlink()
    path = tmp_path / "run" / "resume" / "epoch-2.pt"
    saved = torch.load(path, weights_only=True)
    del saved["identity"]
    torch.save(saved, path)
    with pytest.raises(UserError, match="its optimiser has weight_decay 0.0005, this configuration 0.1"):
        make_trainer("OPTIM.WEIGHT_DECAY", 0.1).train()


def test_a_run_without_a_checkpoint_leaves_its_folder_free(make_trainer, tmp_path):
    kill_at(make_trainer(), 0)
    make_trainer("OPTIM.LR", 0.5).train()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["config"]["OPTIM"]["LR"] == 0.5


def test_a_damaged_record_is_named(make_trainer, finished, tmp_path):
    (tmp_path / "run" / "run.json").write_text('{"config": 1')
    with pytest.raises(UserError, match="run.json is damaged"):
        make_trainer().train()


# ---- --fresh ----


def test_fresh_moves_only_what_the_program_wrote(make_trainer, make_cfg, finished, tmp_path):
    run = tmp_path / "run"
    mine = {"notes.txt": "a", "results-mine.json": "{}", "prompt_learner/todo": "b", "papers/checkpoint": "c"}
    for name, text in mine.items():
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(text)
    for number in (1, 2):
        run_folder.check_folders(make_cfg("SEED", number), run_folder.TRAINING, fresh=True)
        make_trainer("SEED", number).train()
        assert (run / f"replaced-{number}" / "prompt_learner" / "model.pth.tar-4").is_file()
        assert {name: (run / name).read_text() for name in mine} == mine
    assert (run / "replaced-1" / "results.json").read_text() == finished
    assert json.loads((run / "results.json").read_text())["seed"] == 2


def test_code_and_libraries_are_said_not_refused(make_trainer, finished, tmp_path, capsys):
    record = tmp_path / "run" / "run.json"
    content = json.loads(record.read_text())
    start = content["starts"][0]
    start["code"].update(source_sha256="0" * 64, commit="abc123")
    start["libraries"]["torch"] = "1.0"
    record.write_text(json.dumps(content))
    make_trainer().train()
    out = capsys.readouterr().out
    assert "begun with other code (abc123" in out and "other libraries: torch 1.0 (now" in out


# ---- numbers that aren't finite ----


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_stop_the_evaluation(make_trainer, tmp_path, monkeypatch, value):
    trainer = make_trainer()
    scores = trainer.model_inference

    def spoilt(images):
        found = scores(images)
        found[1, 2] = value
        return found

    monkeypatch.setattr(trainer, "model_inference", spoilt)
    with pytest.raises(UserError, match="scores of the model are not finite"):
        trainer.train()
    assert not (tmp_path / "run" / "results.json").exists()
