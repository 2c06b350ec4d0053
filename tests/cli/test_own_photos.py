"""From a folder of photographs to a table of predictions, with the built-in model: names, templates, all images, all classes."""

import csv
import json
import re
import shutil

import pytest

import predict
import train
from basics import UserError, home
from dassl.config import get_cfg_default
from inference import Predictor
from reproduce import facts
from reproduce.__main__ import main as reproduce
from tests.cli import drawn_photos, drawn_scenes
from tests.cli.drawn_photos import CLASSES, draw

PROJECT = home.PROJECT


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "textiles"
    draw(folder, per_class=10)
    return folder


def run(photos, out, method="ZeroshotCLIP", *pairs):
    """train.py on the folder, all classes and images; the exit status."""
    yaml = photos.parent / "textiles.yaml"
    yaml.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: textiles\n")
    eval_only = ["--eval-only"] if method.startswith("Zeroshot") else []
    return train.main([
        "--root", str(photos.parent), "--seed", "1", "--trainer", method, "--output-dir", str(out),
        "--dataset-config-file", str(yaml), "--config-file", str(PROJECT / "configs" / "trainers" / method / "builtin.yaml"),
        *eval_only, "OPTIM.MAX_EPOCH", "1", *map(str, pairs),
    ])  # fmt: skip


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_names_and_templates_of_the_folder(photos, tmp_path, capsys):
    """They are used, recorded, and known to a prediction when the folder is gone."""
    assert run(photos, tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert 'Templates: "a photo of a {} texture."' in out and "Class names: 6 of 6 from" in out
    for words in ("1 .heic file(s)", "1 .txt file(s)", "6 of 60 images have an EXIF orientation"):
        assert words in out
    results = results_of(tmp_path / "run")
    assert results["classnames"] == list(CLASSES.values()) and results["class_folders"] == CLASSES
    assert results["made_from"]["hand template"] == "a photo of a {} texture."
    features = Predictor(tmp_path / "run").trainer.class_features
    assert run(photos, tmp_path / "other", "ZeroshotCLIP", "DATASET.TEMPLATE", "a {}.") == 0
    other = Predictor(tmp_path / "other").trainer.class_features
    elsewhere = photos.rename(photos.parent / "moved")
    try:
        assert (Predictor(tmp_path / "run").trainer.class_features == features).all() and not (other == features).all()
        assert (Predictor(tmp_path / "other").trainer.class_features == other).all()
    finally:
        elsewhere.rename(photos)


@pytest.mark.parametrize(
    "file, old, new", [("classnames.txt", "striped", "lined"), ("templates.txt", "a photo of", "a blurry photo of")]
)
def test_a_changed_file_is_another_run(photos, tmp_path, capsys, file, old, new):
    folder = tmp_path / "data" / "textiles"
    shutil.copytree(photos, folder)
    assert run(folder, tmp_path / "run") == 0
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    capsys.readouterr()
    assert run(folder, tmp_path / "run") == 2
    assert "differs in " in (err := capsys.readouterr().err) and ("names of all classes" in err or "hand template" in err)


def test_groups_are_found_by_name(photos, tmp_path, monkeypatch):
    """The folder's own templates.txt, else templates/<folder>.txt, else the default."""
    from learning.dataset import own_group_file
    from prompting import templates

    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.NAME", "ImageFolder", "DATASET.ROOT", str(photos.parent), "DATASET.FOLDER", "textiles"])
    assert own_group_file(cfg) == photos / "templates.txt"
    for name, stem in (("digits", "digits"), ("My_Rugs", "default")):
        (tmp_path / name).mkdir()
        cfg.merge_from_list(["DATASET.ROOT", str(tmp_path), "DATASET.FOLDER", name])
        assert own_group_file(cfg).stem == stem
    assert templates.group_file(type("ImageFolder", (), {}), "dtd").stem == "dtd"


NAMES = {
    "K01 striped": "'K01 striped' is not of the form FOLDER<TAB>NAME",
    "K1\tstriped": "there is no class folder 'K1' (did you mean K01?)",
    "K01\ta\nK01\tb": "line 2: 'K01' is given twice",
    "K01\tdotted\nK03\tdotted": "'K01' and 'K03' are both called 'dotted'",
    "K01\tK02": "'K01' and 'K02' are both called 'K02'",
    "# nothing": "is empty",
}  # fmt: skip


@pytest.mark.parametrize("text", NAMES)
def test_names_that_cannot_be(photos, tmp_path, text):
    from datasets.own_names import read_names

    (tmp_path / "classnames.txt").write_text(text)
    with pytest.raises(UserError) as error:
        read_names(str(tmp_path), set(CLASSES))
    assert NAMES[text] in str(error.value) and "classnames.txt" in str(error.value)


def test_names_as_windows_writes_them(tmp_path):
    from datasets.own_names import read_names

    (tmp_path / "classnames.txt").write_bytes("\ufeffK01\tkilim rug\r\nK02\ttapis noué\r\n".encode())
    assert read_names(str(tmp_path), set(CLASSES)) == {"K01": "kilim rug", "K02": "tapis noué"}


def test_words_that_the_model_never_met_are_refused(photos, tmp_path, capsys):
    """By methods that read names; a linear probe doesn't. Zero-shot CLIP shows how the folder is read, with a warning."""
    folder = tmp_path / "data" / "textiles"
    shutil.copytree(photos, folder)
    (folder / "classnames.txt").write_text("K01\tkilim rug\nK02\tikat\nK06 (old)\twoven\n")
    message = 'the class name "kilim rug" and 1 more: this model never met these words'
    assert run(folder, tmp_path / "run", "CoOp") == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert run(folder, tmp_path / "zero-shot") == 0
    assert f"WARNING: {message}" in capsys.readouterr().out
    assert results_of(tmp_path / "zero-shot")["names_never_met"] == ["kilim rug", "ikat"]
    with pytest.raises(UserError, match="never met these words"):
        Predictor(tmp_path / "zero-shot")
    assert run(folder, tmp_path / "probe", "LinearProbe") == 0
    assert "names_never_met" not in results_of(tmp_path / "probe")


def test_data_is_the_default_root(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "data").symlink_to(photos.parent)
    monkeypatch.chdir(tmp_path)
    words = ["--seed", "1", "--trainer", "ZeroshotCLIP", "--eval-only", "--output-dir", str(tmp_path / "run")]
    files = ["--dataset-config-file", "data/own.yaml"]
    files += ["--config-file", str(PROJECT / "configs" / "trainers" / "ZeroshotCLIP" / "builtin.yaml")]
    (photos.parent / "own.yaml").write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: textiles\n")
    backbone = ["MODEL.BACKBONE.NAME", str(PROJECT / "models" / "builtin")]
    assert train.main([*words, *files, *backbone]) == 0
    assert results_of(tmp_path / "run")["num"] == {"train_x": 30, "val": 12, "test": 18}
    assert results_of(tmp_path / "run")["config"]["DATASET"]["ROOT"] == "data"


@pytest.mark.timeout(900)
def test_the_walk(tmp_path, monkeypatch, capsys):
    """Three commands: look, train on all images of all classes, predict a folder into a CSV file (docs/own-photos.md)."""
    from datasets.check import main as check

    data, out = tmp_path / "data", tmp_path / "output"
    draw(data / "textiles", per_class=drawn_photos.PER_CLASS)
    yaml = tmp_path / "textiles.yaml"
    yaml.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: textiles\n")
    assert check([str(yaml), "--root", str(data)]) == 0
    assert re.search(r"classes +6\n +train +120\n +val +48\n +test +72", capsys.readouterr().out)
    monkeypatch.setattr(facts, "dataset_file", lambda dataset: yaml)
    facts.dataset_class.cache_clear()
    for name, value in {"DATA": data, "OUT": out, "TRAINER": "CoOp", "CFG": "builtin", "SHOTS": "all"}.items():
        monkeypatch.setenv(name, str(value))
    assert reproduce(["run", "fewshot", "textiles", "1", "OPTIM.MAX_EPOCH", "10"]) == 0
    folder = out / "fewshot" / "textiles" / "shots_all" / "CoOp" / "builtin" / "seed1"
    results = results_of(folder)
    assert results["shots"] == -1 and results["num"] == {"train_x": 120, "val": 48, "test": 72}
    assert results["metrics"]["accuracy"] > 100 / 6 + 20  # chance, and well above it
    capsys.readouterr()
    assert reproduce(["run", "fewshot", "textiles", "1", "all", "OPTIM.MAX_EPOCH", "10"]) == 0
    assert "already finished" in capsys.readouterr().out
    assert reproduce(["summarise", str(out)]) == 0
    assert "textiles/shots_all/CoOp/builtin" in capsys.readouterr().out

    new = tmp_path / "new photos"
    draw(new, per_class=5)
    (new / "K03" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    words = ["--model-dir", str(folder), str(new), "--output", str(tmp_path / "table.csv"), "--report", str(tmp_path / "report")]
    assert predict.main(words) == predict.EXIT_UNREADABLE
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(rows) == 31 and sum(bool(row["error"]) for row in rows) == 1
    assert {row["truth"] for row in rows if row["truth"]} == set(CLASSES.values())  # by the folders' inventory numbers
    assert (tmp_path / "report" / "confusion.png").exists()


@pytest.mark.timeout(900)
def test_the_walk_with_several_labels(tmp_path, monkeypatch, capsys):
    """Pictures of several textures: look, train, summarise, predict (docs/own-photos.md)."""
    from datasets.check import main as check

    data, out = tmp_path / "data", tmp_path / "output"
    rows = dict(drawn_scenes.draw(data / "scenes", count=60))
    yaml = tmp_path / "scenes.yaml"
    yaml.write_text("DATASET:\n  NAME: ImageList\n  FOLDER: scenes\n  MULTI_LABEL: True\n")
    assert check([str(yaml), "--root", str(data)]) == 0
    assert re.search(r"classes +6\n +train +30\n +val +12\n +test +18", capsys.readouterr().out)
    monkeypatch.setattr(facts, "dataset_file", lambda dataset: yaml)
    facts.dataset_class.cache_clear()
    for name, value in {"DATA": data, "OUT": out, "TRAINER": "MoCoOp", "CFG": "builtin", "SHOTS": "all"}.items():
        monkeypatch.setenv(name, str(value))
    command = ["run", "fewshot", "scenes", "1", "OPTIM.MAX_EPOCH", "8", "DATALOADER.TRAIN_X.BATCH_SIZE", "10"]
    assert reproduce(command) == 0
    folder = out / "fewshot" / "scenes" / "shots_all" / "MoCoOp" / "builtin" / "seed1"
    metrics = results_of(folder)["metrics"]
    assert metrics["mAP"] > 45 and len(metrics["per_class_ap"]) == 6  # by chance a third: two of six labels an image
    capsys.readouterr()
    assert reproduce(command) == 0
    assert f"already finished, mAP {metrics['mAP']:.2f}%" in capsys.readouterr().out
    assert reproduce(["summarise", str(out)]) == 0
    assert f"* mAP: {metrics['mAP']:.2f}% +- 0.00%" in (said := capsys.readouterr().out) and "accuracy" not in said

    words = ["--model-dir", str(folder), str(data / "scenes"), "--output", str(tmp_path / "table.csv"), "--top", "6"]
    assert predict.main([*words, "--set", "TEST.LABEL_THRESHOLD", "0.4"]) == 0
    for row in csv.DictReader((tmp_path / "table.csv").read_text().splitlines()):
        shares = {row["class"]: float(row["probability"])}
        shares |= {row[f"class_{n}"]: float(row[f"probability_{n}"]) for n in range(2, 7)}
        assert row["image"].rpartition("/")[2] in rows and set(shares) == set(drawn_scenes.NAMES)
        assert row["labels"].split("; ") == [name for name in sorted(shares) if shares[name] >= 0.4] or not row["labels"]
    capsys.readouterr()
    assert predict.main([*words, "--report", str(tmp_path / "report")]) == 2
    assert "--report: images of this run have several labels" in capsys.readouterr().err
