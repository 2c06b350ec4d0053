"""Runs as data: recipes, folders, states and what the scripts' command lines and environment mean."""

import argparse
import json

import pytest

from basics import UserError, home
from reproduce import facts, recipes, single
from reproduce.recorded import check_same_settings
from reproduce.runs import Run, read_result

FINISHED = {"status": "finished", "metrics": {"accuracy": 70.0}}


def parse(monkeypatch, *words, **environment):
    for name in ("TRAINER", "CFG", "SHOTS", "SOURCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    single.add_arguments(parser.add_subparsers())
    return single.runs_of(parser.parse_args(["run", *words]))


@pytest.mark.parametrize(
    "trainer, dataset, setting, shots, cfg",
    [
        ("CoOp", "eurosat", "base2new", 16, "vit_b16_ctxv1"),
        ("CoOp", "imagenet", "base2new", 16, "vit_b16_ep50_ctxv1"),
        ("CoOp", "imagenet", "crossdataset", 16, "vit_b16_ep50_ctxv1"),
        ("MoCoOp", "imagenet", "base2new", 16, "vit_b16_ep50"),
        ("CoCoOp", "dtd", "base2new", 16, "vit_b16_c4_ep10_batch1_ctxv1"),
        ("KgCoOp", "dtd", "base2new", 16, "vit_b16_ep100_ctxv1"),
        ("ProGrad", "dtd", "base2new", 16, "vit_b16_ep100"),
        ("MoCoOp", "dtd", "base2new", 16, "vit_b16"),
        ("CoOp", "dtd", "fewshot", 1, "rn50_ep50"),
        ("CoOp", "dtd", "fewshot", 4, "rn50_ep100"),
        ("MoCoOp", "dtd", "fewshot", 8, "rn50"),
        ("CoOp", "imagenet", "fewshot", 16, "rn50_ep50"),
        ("KgCoOp", "dtd", "fewshot", 1, "rn50_ep100"),
        ("ProGrad", "dtd", "fewshot", 1, "rn50_ep50"),
        ("ProGrad", "dtd", "fewshot", 2, "rn50_ep100"),
        ("ProGrad", "dtd", "fewshot", 4, "rn50_ep100"),
        ("ProGrad", "dtd", "fewshot", 8, "rn50"),
        ("ProGrad", "dtd", "fewshot", 16, "rn50"),
        ("ProGrad", "imagenet", "base2new", 16, "vit_b16_ep50"),
        ("ZeroshotCLIP", "dtd", "zeroshot", 16, "vit_b16"),
        ("CoOp", "letters", "base2new", 16, "builtin"),
        ("MoCoOp", "letters_sketch", "crossdataset", 16, "builtin"),
    ],
)
def test_default_cfg_is_the_published_recipe(trainer, dataset, setting, shots, cfg):
    assert recipes.default_cfg(trainer, dataset, setting, shots) == cfg


def test_prograd_few_shot_lambda():
    run = Run("fewshot", "dtd", "ProGrad", "rn50_ep100", shots=16, opts=("LOSS.LAMBDA", "0.5"))
    assert run.settings() == ("LOSS.LAMBDA", "0.8", "DATASET.NUM_SHOTS", "16", "LOSS.LAMBDA", "0.5")
    assert "LOSS.LAMBDA" not in Run("fewshot", "dtd", "ProGrad", "rn50_ep100", shots=4).settings()
    assert "LOSS.LAMBDA" not in Run("base2new_train", "dtd", "ProGrad", "vit_b16_ep100").settings()


@pytest.mark.parametrize(
    "words, folder",
    [
        (("base2new_train", "eurosat", "1"), "base2new/train_base/eurosat/shots_16/MoCoOp/vit_b16/seed1"),
        (("base2new_test", "eurosat", "1"), "base2new/test_new/eurosat/shots_16/MoCoOp/vit_b16/seed1"),
        (("fewshot", "eurosat", "2", "1"), "fewshot/eurosat/shots_1/MoCoOp/rn50_ep50/seed2"),
        (("fewshot", "eurosat", "2", "all"), "fewshot/eurosat/shots_all/MoCoOp/rn50/seed2"),
        (("zeroshot", "eurosat", "new"), "zeroshot/eurosat/ZeroshotCLIP/vit_b16/new"),
        (("xd_train", "imagenet", "3"), "crossdataset/train/imagenet/shots_16/MoCoOp/vit_b16_ep50/seed3"),
        (("xd_test", "eurosat", "3"), "crossdataset/test/imagenet/eurosat/shots_16/MoCoOp/vit_b16_ep50/seed3"),
        (("xd_test", "letters_dark", "3"), "crossdataset/test/letters/letters_dark/shots_16/MoCoOp/builtin/seed3"),
    ],
)
def test_folders(monkeypatch, words, folder):
    (run,) = parse(monkeypatch, *words)
    assert str(run.directory("out")) == f"out/{folder}"


def test_environment_and_pairs(monkeypatch):
    (run,) = parse(monkeypatch, "base2new_train", "eurosat", "1", "OPTIM.LR", "0.1", TRAINER="CoOp", SHOTS="4", CFG="x")
    assert (run.trainer, run.shots, run.cfg, run.opts) == ("CoOp", 4, "x", ("OPTIM.LR", "0.1"))
    assert run.settings() == ("DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.LR", "0.1")
    assert [r.subsample for r in parse(monkeypatch, "zeroshot", "eurosat")] == ["base", "new", "all"]
    (run,) = parse(monkeypatch, "base2new_train", "dtd", "1", TRAINER="ProGrad", SHOTS="all")
    assert run.settings()[-4:] == ("DATASET.NUM_SHOTS", "-1", "DATASET.SUBSAMPLE_CLASSES", "base")
    with pytest.raises(UserError, match="SHOTS=many"):
        parse(monkeypatch, "base2new_train", "eurosat", "1", SHOTS="many")
    with pytest.raises(UserError, match="KEY VALUE pairs, got: OPTIM.LR"):
        parse(monkeypatch, "base2new_train", "eurosat", "1", "OPTIM.LR")


def test_relative_folders_are_the_callers(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUT", "results")
    monkeypatch.delenv("DATA", raising=False)
    assert single.output_folder() == tmp_path / "results"
    assert single.data_folder() == home.PROJECT / "data"


@pytest.mark.parametrize("text", ["", "{", '{"status": "running"}', "[]"])
def test_only_a_parsed_finished_result_counts(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    assert read_result(tmp_path) is None


def test_finished_run_with_other_settings_is_not_passed_off(tmp_path):
    result = {
        "status": "finished",
        "config": {
            "OPTIM": {"MAX_EPOCH": 1, "LR": 0.002},
            "INPUT": {"SIZE": [64, 64]},
            "DATASET": {"NUM_SHOTS": 16, "SUBSAMPLE_CLASSES": "base"},
        },
    }
    result["config"]["SEED"], cfg = 1, "vit_b16_ctxv1"
    same = Run("base2new_train", "dtd", "CoOp", cfg, opts=("OPTIM.MAX_EPOCH", "1", "INPUT.SIZE", "(64, 64)", "OPTIM.LR", "2e-3"))
    check_same_settings(same, result, tmp_path)
    other = Run("base2new_train", "dtd", "CoOp", cfg, seed=2, opts=("INPUT.SIZE", "(64, 64)"))
    with pytest.raises(
        UserError, match=r"OPTIM.MAX_EPOCH 1 \(now 200\), SEED 1 \(now 2\): set OUT to another folder, or --fresh"
    ):
        check_same_settings(other, result, tmp_path)


def test_test_run_needs_its_training_run(tmp_path):
    run = Run("base2new_test", "eurosat", "CoOp", "vit_b16_ctxv1", seed=2, shots=4)
    with pytest.raises(UserError, match="SHOTS=4 bash scripts/base2new_train.sh eurosat 2"):
        run.command("data", tmp_path)
    trained = run.training.directory(tmp_path)
    trained.mkdir(parents=True)
    (trained / "results.json").write_text(json.dumps({**FINISHED, "epochs": 7}))
    command = run.command("data", tmp_path)
    assert command[command.index("--load-epoch") + 1] == "7"
    assert command[command.index("--model-dir") + 1] == str(trained)
    assert "--eval-only" in command and command[-2:] == ["DATASET.SUBSAMPLE_CLASSES", "new"]


@pytest.mark.parametrize("change", [
    {"metrics": {}}, {"metrics": {"accuracy": "70"}}, {"metrics": {"accuracy": float("nan")}}, {"metrics": None},
    {"metrics": {"accuracy": 170.0}}, {"epochs": "7"}, {"finished_at": 7}, {"config": []},
], ids=str)  # fmt: skip
def test_a_damaged_result_counts_as_none(change, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({**FINISHED, **change}))
    assert read_result(tmp_path) is None


def test_a_test_older_than_its_training_run_counts_no_more(tmp_path):
    run = Run("base2new_test", "eurosat", "CoOp", "vit_b16_ctxv1")
    for folder, time in (
        (run.directory(tmp_path), "2024-05-02T10:00:00"),
        (run.training.directory(tmp_path), "2024-05-01T10:00:00"),
    ):
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({**FINISHED, "finished_at": time}))
    assert run.result(tmp_path) is not None
    retrained = run.training.directory(tmp_path) / "results.json"
    retrained.write_text(json.dumps({**FINISHED, "finished_at": "2024-05-03T10:00:00"}))
    assert run.result(tmp_path) is None


@pytest.mark.parametrize("name", ["resume/epoch-3.pt", "prompt_learner/model.pth.tar-3"])
def test_training_resumes_where_a_checkpoint_lies(tmp_path, name):
    run = Run("base2new_train", "eurosat", "CoOp", "vit_b16_ctxv1")
    assert "--resume" not in run.command("data", tmp_path)
    checkpoint = run.directory(tmp_path) / name
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    command = run.command("data", tmp_path)
    assert command[command.index("--resume") + 1] == str(run.directory(tmp_path))


def test_unknown_names_name_the_nearest():
    with pytest.raises(UserError, match="did you mean MoCoOp"):
        recipes.trainer_file("MocoOP", "vit_b16")
    with pytest.raises(UserError, match="did you mean eurosat"):
        facts.dataset_file("eurosta")
    with pytest.raises(UserError, match="did you mean vit_b16_ctxv1"):
        recipes.trainer_file("CoOp", "vit_b16_ctx1")


def test_zeroshot_in_base_to_new_only_evaluates(tmp_path):
    for kind in ("base2new_train", "base2new_test"):
        command = Run(kind, "eurosat", "ZeroshotCLIP", "vit_b16").command("data", tmp_path)
        assert "--eval-only" in command and "--model-dir" not in command


@pytest.mark.parametrize("trainer", sorted(p.name for p in (home.PROJECT / "configs" / "trainers").iterdir()))
@pytest.mark.parametrize("dataset", ["eurosat", "imagenet", "letters"])
def test_every_default_cfg_is_a_file(trainer, dataset):
    few_shot = [("fewshot", shots) for shots in (1, 4, 16) if trainer != "CoCoOp"]  # which has no few-shot recipe
    for setting, shots in [("base2new", 16), ("crossdataset", 16), *few_shot]:
        assert recipes.trainer_file(trainer, recipes.default_cfg(trainer, dataset, setting, shots)).is_file()


def test_rules_of_recipes():
    opts = recipes.recipe_opts
    assert opts("ProGrad", "dtd", "fewshot", 8) == opts("ProGrad", "dtd", "fewshot", 16) == ("LOSS.LAMBDA", "0.8")
    assert opts("ProGrad", "dtd", "fewshot", 4) == opts("ProGrad", "dtd", "base2new", 16) == ()
    assert opts("TCP", "sun397", "base2new", 16) == ("OPTIM.MAX_EPOCH", "25")
    assert opts("MMRL", "eurosat", "base2new", 16)[-4:] == ("TRAINER.MMRL.REG_WEIGHT", "0.01", "TRAINER.MMRL.REP_DIM", "2048")
    assert opts("MMRL", "eurosat", "crossdataset", 16) == ("TASK", "CD")
    assert recipes.default_cfg("CoOp", "eurosat", "fewshot", 3) == "rn50"
    assert recipes.recipe_cfg("released", "MoCoOp", "letters", "base2new", 16) == "builtin_released"
    assert recipes.default_cfg("NoSuch", "eurosat", "base2new", 16) == "vit_b16"
