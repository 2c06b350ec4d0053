"""A number of a table leads to its runs; what isn't as the recipe says is marked, and doesn't count unless it was asked for."""

import csv
import io
import json
import re

import pytest
from test_tables import finish, out, select  # noqa: F401  (out: a fixture)

from reproduce import recorded
from reproduce.__main__ import main
from reproduce.recorded import Source, disagreements
from reproduce.runs import Run

ARGUMENTS = ["table1", "--datasets", "letters", "--methods", "CoOp", "--seeds", "1", "2"]


def config(**changed):
    """A configuration as results.json has it: the recipe's but for OPTIM.<name>."""
    return {"OPTIM": {"MAX_EPOCH": 50, "LR": 0.02, **changed}, "DATALOADER": {"NUM_WORKERS": 7}}


def recipe_config():
    import train

    (run, *_) = select(*ARGUMENTS).runs()
    cfg = train.setup_cfg(train.build_parser().parse_args(run.words()))
    return {"OPTIM": {"MAX_EPOCH": cfg.OPTIM.MAX_EPOCH, "LR": cfg.OPTIM.LR}, "DATALOADER": {"NUM_WORKERS": 7}}


@pytest.fixture
def quick_try(out):  # noqa: F811
    """Table 1's CoOp on letters: seed 1 is a quick try of 5 epochs, seed 2 the recipe's run."""
    for run in select(*ARGUMENTS).runs():
        known = recipe_config()
        if run.seed == 1:
            known["OPTIM"]["MAX_EPOCH"] = 5
        finish(out, run, 60.0 + 10 * run.seed, config={**known, "SEED": run.seed}, fingerprint=str(run.seed) * 64)
    return out


def test_a_quick_try_is_marked_and_doesnt_count(quick_try, capsys):
    assert main(ARGUMENTS) == 0
    text = capsys.readouterr().out
    assert re.search(r"CoOp +80\.00 \(1/2\) \[a\]", text)
    assert re.search(r"\[a\] CoOp letters base seed 1: OPTIM.MAX_EPOCH 5 \(the recipe: \d+\); its 70.00 doesn't count", text)
    assert "CoOp: 2 runs missing (letters)" in text and "--run --fresh" in text


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv", "json"])
def test_every_format_has_the_mark(quick_try, kind, capsys):
    assert main([*ARGUMENTS, "--format", kind]) == 0
    text = capsys.readouterr().out
    assert "MAX" in text and "80.0" in text and "75.0" not in text
    if kind == "csv":
        first = next(csv.DictReader(io.StringIO(text)))
        assert first["runs"].endswith("CoOp/builtin/seed2") and "70.00 doesn't count" in first["marks"]


def test_what_was_asked_for_counts_and_is_marked(out, capsys):  # noqa: F811
    asked = [*ARGUMENTS, "--set", "OPTIM.MAX_EPOCH", "5", "--set", "DATALOADER.NUM_WORKERS", "1"]
    for run in select(*asked).runs():
        known = recipe_config()
        known["OPTIM"]["MAX_EPOCH"] = 5
        finish(out, run, 70.0, config=known)
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert (
        "70.00 ± 0.00 [" in text and "CoOp (max_epoch5): OPTIM.MAX_EPOCH 5 (the recipe: " in text and "doesn't count" not in text
    )
    assert "NUM_WORKERS" not in text.split("Missing")[0]


def test_the_recipe_is_not_marked(out, capsys):  # noqa: F811
    for run in select(*ARGUMENTS).runs():
        finish(out, run, 70.0, config=recipe_config())
    assert main(ARGUMENTS) == 0
    text = capsys.readouterr().out
    assert "70.00 ± 0.00" in text and "[" not in text and "Missing" not in text


def test_a_test_of_a_model_that_was_trained_otherwise(out):  # noqa: F811
    run = Run("base2new_test", "letters", "CoOp", "builtin")
    trained = {"OPTIM.MAX_EPOCH": 5, "SEED": 1}
    finish(out, run, 70.0, config=recipe_config(), model={"trained_with": trained})
    found = recorded.differences_from(run, run.result(out))
    assert [name for name, *_ in found] == ["OPTIM.MAX_EPOCH of the training"]
    finish(out, run.training, 70.0, config=recipe_config(), finished_at="2024-01-01")
    assert run.result(out) is None  # of a training run that has made room for another one
    assert "--fresh" in run.command("data", out)


def test_every_number_leads_to_its_runs(out, capsys):  # noqa: F811
    more = {
        "code": {"commit": "c0ffee", "modified": True}, "versions": {"torch": "2.9", "commit": "c0ffee"}, "data_hash": "d" * 64,
        "weights": {"state_sha256": "a" * 64}, "made_from": {"training images": "16 with sha256 " + "b" * 64}, "device": "cpu",
        "fingerprint": "f" * 64,
    }  # fmt: skip
    runs = list(select(*ARGUMENTS).runs())
    for run in runs:
        finish(out, run, 70.0, config=recipe_config(), **more)
    main([*ARGUMENTS, "--list-runs"])
    text = capsys.readouterr().out
    told = ["c0ffee with changes", "torch 2.9", "aaaaaaaaaaaa…", "dddddddddddd…", "2025-01-01", "bbbbbbbbbbbb…", "ffffffffffff…"]
    assert all(str(run.directory(out)) in text for run in runs) and all(t in text for t in told)
    main([*ARGUMENTS, "--format", "json"])
    content = json.loads(capsys.readouterr().out)
    assert content["runs"][str(runs[0].directory(out))]["weights"] == "a" * 64
    main(["report", "--seeds", "1", "2"])
    page = (out / "report.html").read_text(encoding="utf-8")
    numbers = re.findall(r'<td><a href="#(n\d+)">', page)
    assert len(numbers) >= 4
    for number in numbers:
        target = re.search(rf'<li id="{number}">(.*?)</li>', page)[1]
        links = re.findall(r'href="#(run\d+)"', target)
        assert links and all(f'id="{link}"' in page for link in links)
    for run in runs:
        assert f'href="{run.directory(out).relative_to(out)}/"' in page
    assert "c0ffee with changes" in page and "a" * 64 in page and "MAX_EPOCH" in page


def test_runs_of_different_weights_or_images_are_said(out, capsys):  # noqa: F811
    for run in select(*ARGUMENTS).runs():
        weights = {"state_sha256": str(run.seed) * 64}
        made = {"test images": f"10 with sha256 {run.seed}"}
        finish(out, run, 70.0, config=recipe_config(), weights=weights, made_from=made, backbone="models/builtin")
    main(ARGUMENTS)
    text = capsys.readouterr().out
    assert "runs on models/builtin have different weights" in text and "runs on letters base have different test images" in text


def test_rows_on_different_models_are_said():
    def source(dataset, trainer, backbone):
        run = Run("base2new_train", dataset, trainer, "builtin")
        return Source(run, f"{dataset}/{trainer}", {"backbone": backbone, "metrics": {"accuracy": 70.0}}, ())

    resnet, vit = "models/builtin", "models/builtin_vit"
    alike = [source("letters", "CoOp", resnet), source("letters", "KgCoOp", resnet), source("digits", "CoOp", vit)]
    assert disagreements(alike) == []
    said = "rows on different models: models/builtin: CoOp, KgCoOp; models/builtin_vit: MaPLe"
    assert disagreements([*alike, source("letters", "MaPLe", vit)]) == [said]
    both = [source(d, t, m) for d in ("letters", "digits") for t, m in (("CoOp", resnet), ("KgCoOp", resnet), ("MaPLe", vit))]
    assert disagreements(both) == [said]  # once


@pytest.mark.parametrize("words, message", [
    (["1", "OPTIM.LR", "0.5"], r"differs in OPTIM.LR 0.02 \(now 0.5\)"),
    (["1", "OPTIM.LRR", "0.5"], "unknown key OPTIM.LRR .did you mean OPTIM.LR"),
    (["1", "TRAINER.COOP.PREC", "fp8"], r"differs in TRAINER.COOP.PREC fp32 \(now fp8\)"),
])  # fmt: skip
def test_scripts_refuse_a_finished_run_of_other_settings(out, monkeypatch, capsys, words, message):  # noqa: F811
    monkeypatch.setenv("TRAINER", "CoOp")
    recorded_precision = {"TRAINER": {"COOP": {"PREC": "fp32"}}}
    finish(out, Run("base2new_train", "letters", "CoOp", "builtin"), 70.0, config={**recipe_config(), **recorded_precision})
    assert main(["run", "base2new_train", "letters", "1"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert main(["run", "base2new_train", "letters", *words]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_scripts_start_anew_with_fresh(out, monkeypatch):  # noqa: F811
    from reproduce import single

    commands = []
    monkeypatch.setenv("TRAINER", "CoOp")
    monkeypatch.setattr(single, "foreground", lambda command: commands.append(command) or 0)
    run = Run("base2new_train", "letters", "CoOp", "builtin")
    finish(out, run, 70.0, config=config(LR=0.5))
    assert main(["run", "base2new_train", "--fresh", "letters", "1"]) == 0
    assert "--fresh" in commands[0] and "--resume" not in commands[0]


def test_a_test_of_a_quick_try_is_refused(out, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setenv("TRAINER", "CoOp")
    finish(out, Run("base2new_train", "letters", "CoOp", "builtin"), 70.0, config=config(MAX_EPOCH=5))
    assert main(["run", "base2new_test", "letters", "1"]) == 2
    assert "OPTIM.MAX_EPOCH 5 (now " in capsys.readouterr().err
