"""`python -m reproduce tune`: what is held out, that no test image is read, resuming, the space; no table takes such runs."""

import json
import os
from pathlib import Path

import pytest

import train
from basics import UserError
from datasets.held_out import held_out_labels
from datasets.splits import Item, base_labels, subsample_classes
from reproduce import demo, tables, tune, tune_space
from reproduce.__main__ import main
from reproduce.results import harmonic_mean
from reproduce.runs import Run
from tests.reproduce.test_tables import finish, select

EPOCHS = ("--set", "OPTIM.MAX_EPOCH", "2", "--set", "DATALOADER.NUM_WORKERS", "0")


def items(labels):
    return [Item(f"{label}.png", label, f"class {label}") for label in labels]


def test_held_out_classes_are_base_classes():
    data = items(range(9))
    base = base_labels(data)
    assert base == [0, 1, 2, 3, 4]
    draws = {seed: held_out_labels(data, 0.4, seed) for seed in range(20)}
    assert all(len(held) == 2 and set(held) <= set(base) for held in draws.values())
    assert len(set(map(tuple, draws.values()))) > 3 and draws[3] == held_out_labels(data, 0.4, 3)
    for share, count in ((0.01, 1), (0.99, 4)):
        assert len(held_out_labels(data, share, 0)) == count  # one at least is held out, one at least is left
    with pytest.raises(UserError, match="none can be held out"):
        held_out_labels(items([0, 1]), 0.5, 0)
    for subsample, expected in (("base", [0, 2, 4]), ("new", [1, 3])):
        (kept,) = subsample_classes(data, subsample=subsample, held_out=(1, 3))
        assert [item.classname for item in kept] == [f"class {label}" for label in expected]
        assert [item.label for item in kept] == list(range(len(expected)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The digits, of which every test image, and every image of a new class, holds bytes that no reader takes."""
    root = tmp_path_factory.mktemp("data")
    cfg = train.setup_cfg(
        train.build_parser().parse_args(["--root", str(root), "--dataset-config-file", "configs/datasets/digits.yaml"])
    )
    import datasets
    from dassl.data.datasets import build_dataset

    assert datasets
    dataset = build_dataset(cfg)
    new = set(base_labels(dataset.train_x)) ^ {item.label for item in dataset.train_x}
    for part in (dataset.train_x, dataset.val, dataset.test):
        for item in part:
            if part is dataset.test or item.label in new:
                Path(item.impath).write_bytes(b"no image")
    return root


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    """OUT; runs are made in this process."""
    monkeypatch.setenv("DATA", str(data))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.chdir(train.__file__.rpartition("/")[0])

    def make_all(chains, data, out, jobs):
        for chain in chains:
            for run in chain:
                if run.result(out) is None:
                    assert train.main(run.command(data, out, cache_features=True)[2:]) == 0
        return True, 0

    monkeypatch.setattr(demo, "make_all", make_all)
    return tmp_path / "out"


def trials_of(out):
    (file,) = out.glob("tune/*/digits/*/*/*/trials.json")
    return json.loads(file.read_text())


@pytest.mark.timeout(600)
def test_no_test_image_is_read_and_a_search_goes_on(place, capsys, monkeypatch):
    plain = Run("base2new_train", "digits", "CoOp", "builtin", opts=("OPTIM.MAX_EPOCH", "1"))
    assert train.main(plain.command(os.environ["DATA"], place / "plain")[2:]) == 2  # without DATASET.HELD_OUT they are read
    assert "cannot identify image" in capsys.readouterr().err
    words = ["tune", "MoCoOp", "digits", "--trials", "3", "--folds", "1", *EPOCHS]
    assert main(words) == 0
    printed, whole = capsys.readouterr().out, trials_of(place)
    part = whole["seeds"]["1"]
    assert len(part["trials"]) == 3 and part["cost"]["failed"] == 0 and whole["recipe_is_trial_1"]
    assert part["trials"][0]["settings"][:4] == ["TRAINER.MOCOOP.LAMBDA_ROUTER", "1", "TRAINER.MOCOOP.LAMBDA_TEXT", "5"]
    for trial in part["trials"]:
        assert trial["H"] == pytest.approx(harmonic_mean(trial["folds"][0]["base"], trial["folds"][0]["new"]))
    best = max(trial["H"] for trial in part["trials"])
    assert (
        part["choice"]["H"] == best
        and part["choice"]["settings"] == next(t for t in part["trials"] if t["H"] == best)["settings"]
    )
    assert part["commands"][0] in printed and part["commands"][0].startswith(
        "OUT=output/tuned bash scripts/base2new_train.sh digits 1 "
    )
    results = [json.loads(file.read_text()) for file in (place / "tune" / "runs").rglob("results.json")]
    assert len(results) == 6 and {result["split"] for result in results} == {"val"}
    for result in results:  # 5 base classes: 3 and 2; 4 validation images of each
        count = {"base": 3, "new": 2}[result["subsample_classes"]]
        assert len(result["classnames"]) == count and result["metrics"]["total"] == 4 * count and result["num"]["test"] == 0
        assert len(result["held_out"]) == 2 and result["made_from"]["names of all classes"].startswith("5 with")
    # interrupted in its second trial, with the first half of that trial done, it goes on to the same trials
    monkeypatch.setenv("OUT", str(place.parent / "again"))
    finish_trial, calls = demo.make_all, []

    def interrupted(chains, data, out, jobs):
        calls.append(chains)
        if len(calls) == 2:
            finish_trial([chain[:1] for chain in chains], data, out, jobs)
            raise KeyboardInterrupt
        return finish_trial(chains, data, out, jobs)

    monkeypatch.setattr(demo, "make_all", interrupted)
    assert main(words) == 130
    assert main(words) == 0
    again = trials_of(place.parent / "again")["seeds"]["1"]
    assert [t["settings"] for t in again["trials"]] == [t["settings"] for t in part["trials"]]
    assert [t["H"] for t in again["trials"]] == [t["H"] for t in part["trials"]] and len(calls) == 4
    assert main([*words[:4], "4", *words[5:]]) == 0  # and is made longer
    assert len(calls) == 5


@pytest.mark.timeout(600)
def test_what_asks_for_test_images_fails_in_a_line(place, capsys, monkeypatch):
    """A search on test images, as published: refused, and the report says that the trial failed."""
    make_all = demo.make_all

    def fail(chains, data, out, jobs):
        with pytest.raises(AssertionError):
            make_all(chains, data, out, jobs)
        return False, 0

    monkeypatch.setattr(demo, "make_all", fail)
    words = ["tune", "ADAPTER", "digits", "--trials", "1", "--folds", "1", *EPOCHS, "--key", "OPTIM.LR=0.1,0.2"]
    assert main([*words, "--set", "TRAINER.ADAPTER.INIT", "TR_grid_search"]) == 2
    err = capsys.readouterr().err
    assert "no test image is read" in err and "every trial of a seed has failed" in err


def test_a_run_on_held_out_classes_is_in_no_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    with pytest.raises(UserError, match="no table has them"):
        select("table1", "--set", "DATASET.HELD_OUT", "0.3")
    selection = select("table1", "--datasets", "letters", "--methods", "CoOp", "--seeds", "1")
    wanted = train.setup_cfg(train.build_parser().parse_args(next(iter(selection.runs())).words()))
    for run in selection.runs():  # such a run in the recipe's own folder
        config = json.loads(json.dumps(wanted))
        config["DATASET"] |= {"HELD_OUT": 0.3, "SUBSAMPLE_CLASSES": run.classes}
        config["TEST"]["SPLIT"] = "val"
        finish(tmp_path, run, 99.0, config=config)
    document = selection.document(tmp_path, tables.command_for(selection))
    assert document.blocks[0].rows[0][1][0].ours is None
    assert "DATASET.HELD_OUT" in " ".join(document.blocks[0].rows[0][1][0].marks)
    with pytest.raises(UserError, match="no finished run"):
        from reproduce.results import summarise

        summarise(tmp_path)
    assert "left out: 2 runs on held-out classes" in capsys.readouterr().out


@pytest.mark.parametrize("pairs", [(), ("DATASET.SUBSAMPLE_CLASSES", "base"), ("TEST.SPLIT", "val")])
def test_held_out_needs_base_or_new_and_validation_images(pairs):
    words = ["--dataset-config-file", "configs/datasets/digits.yaml", "DATASET.HELD_OUT", "0.3", *pairs]
    with pytest.raises(UserError, match="SUBSAMPLE_CLASSES base or new, and TEST.SPLIT val"):
        train.setup_cfg(train.build_parser().parse_args(words))


def recipe(method, dataset="digits"):
    args = [
        "--trainer", method, "--dataset-config-file", f"configs/datasets/{dataset}.yaml", "--config-file",
        f"configs/trainers/{method}/builtin.yaml",
    ]  # fmt: skip
    return train.setup_cfg(train.build_parser().parse_args(args))


def test_space_of_a_method_without_a_file():
    """Around the recipe's values, within the keys' declared limits."""
    cfg = recipe("KgCoOp")
    found = {d.key: d for d in tune_space.space("KgCoOp", "digits", cfg)}
    assert set(found) == {"OPTIM.LR", "TRAINER.COOP.W"}  # not ALPHA, which nothing reads; words say the number of vectors
    assert (found["OPTIM.LR"].low, found["OPTIM.LR"].high) == pytest.approx((cfg.OPTIM.LR / 4, cfg.OPTIM.LR * 4))
    assert found["TRAINER.COOP.W"].low == pytest.approx(cfg.TRAINER.COOP.W / 4)
    assert tune_space.of_recipe(list(found.values()), cfg) == {"OPTIM.LR": cfg.OPTIM.LR, "TRAINER.COOP.W": cfg.TRAINER.COOP.W}
    assert "TRAINER.COOP.W" not in {d.key for d in tune_space.space("CoOp", "digits", recipe("CoOp"))}  # KgCoOp's
    assert {"LOSS.LAMBDA", "LOSS.T"} <= {d.key for d in tune_space.space("ProGrad", "digits", recipe("ProGrad"))}


def test_space_of_mocoop_and_of_words():
    cfg = recipe("MoCoOp")
    found = {d.key: d for d in tune_space.space("MoCoOp", "digits", cfg)}
    assert found["experts"].values == ("own", "3", "5", "6")  # the files that digits has
    assert tune_space.of_recipe(list(found.values()), cfg) == {
        "TRAINER.MOCOOP.LAMBDA_ROUTER": 1.0, "TRAINER.MOCOOP.LAMBDA_TEXT": 5.0, "TRAINER.MOCOOP.TAU": 0.07,
        "TRAINER.MOCOOP.TOP_K": "2", "experts": "own", "OPTIM.LR": cfg.OPTIM.LR,
    }  # fmt: skip
    named = tune_space.space(
        "MoCoOp", "digits", cfg, ["OPTIM.LR=1e-3..0.5", "TRAINER.MOCOOP.BALANCE_LOSS=none,switch", "experts=own,3"]
    )
    assert (named[0].low, named[0].high) == (1e-3, 0.5) and named[1].values == ("none", "switch")
    params = {"OPTIM.LR": 0.0123456, "TRAINER.MOCOOP.BALANCE_LOSS": "switch", "experts": "3"}
    assert tune_space.settings(named, params, "digits") == (
        "OPTIM.LR", "0.0123", "TRAINER.MOCOOP.BALANCE_LOSS", "switch",
        "TRAINER.MOCOOP.TEMPLATES", "templates/experts/digits_3.txt",
    )  # fmt: skip


@pytest.mark.parametrize("word, named", [
    ("OPTIM.RATE=1,2", "unknown key OPTIM.RATE"), ("OPTIM.LR", "write KEY=A,B,C"), ("OPTIM.LR=2..1", "0 < LOW < HIGH"),
    ("experts=7", "digits_7.txt doesn't exist"),
])  # fmt: skip
def test_words_that_are_no_space(word, named):
    with pytest.raises(UserError, match=named):
        tune_space.space("MoCoOp", "digits", recipe("MoCoOp"), [word])


def test_what_a_search_is_decides_its_folder():
    dimension = tune_space.Dimension("OPTIM.LR", (), 0.1, 1.0)
    one = tune.Search("CoOp", "digits", "builtin", 16, (dimension,), 2, 0.33, "tpe")
    other = tune.Search("CoOp", "digits", "builtin", 16, (dimension,), 3, 0.33, "tpe")
    assert one.directory(Path("o")) != other.directory(Path("o"))
    labels = [run.label for chain in one.chains(("OPTIM.LR", "0.2"), 1) for run in chain]
    assert len(labels) == 4 and len(set(labels)) == 4
    folders = {str(run.directory("o")) for chain in one.chains((), 1) for run in chain}
    assert len(folders) == 4 and all("held_out0.33-held_out_seed" in folder for folder in folders)
