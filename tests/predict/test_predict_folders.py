"""Folders of images: every file is classified or named, folders that are classes give scores, files say the same as the run."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

import predict
from basics.spreadsheet import as_csv
from dassl.utils import UserError, read_image
from inference import gathering, scoring
from tests.predict.test_predict import PROJECT, command, one_error


@pytest.fixture
def photos(world, tmp_path):
    """The ten test images in class folders of several spellings and depths; three more lie elsewhere."""
    top = tmp_path / "photos"
    for path, name in zip(world.images, world.classes):
        spelled = {"Forest": "FOREST", "River": "rivers/river", "Highway or Road": "Highway_or_Road"}.get(name, name)
        folder = top / ("2024/" if name.startswith("P") else "") / spelled
        folder.mkdir(parents=True)
        shutil.copy(path, folder / "a.png")
    (top / "Forst").mkdir()
    shutil.copy(world.images[0], top / "Forst" / "=1+1.PNG")
    shutil.copy(world.images[0], top / "loose.png")
    shutil.copy(world.images[0], top / ".hidden.png")
    (top / "notes.txt").write_text("x")
    return top


def rows_of(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def test_folder_to_files_and_report(world, photos, tmp_path, capfd):
    """Scores are scikit-learn's on the predictions; CSV, JSON and JSON Lines agree; what counts in no score is named."""
    files, report = [tmp_path / f"p.{kind}" for kind in ("csv", "json", "jsonl")], tmp_path / "report"
    outputs = [word for file in files for word in ("--output", file)]
    status, out, err = command(
        capfd, "--model-dir", world.runs["ADAPTER"], photos, *outputs, "--report", report, "--top", 3, "--set",
        "DATALOADER.TEST.BATCH_SIZE", 4, "--set", "DATALOADER.NUM_WORKERS", 2,
    )  # fmt: skip
    assert status == 0
    for line in (
        "Not images, left out: 1 .txt file(s)",
        "2 folder(s) have no class's name",
        "Forst: 1 image(s) (did you mean forest?)",
    ):
        assert line in err
    rows, content = rows_of(files[0]), json.loads(files[1].read_text())
    lines = [json.loads(line) for line in files[2].read_text().splitlines()]
    assert content["images"] == lines and len(rows) == len(lines) == 12
    by_image = {line["image"]: line for line in lines}
    for row in rows:
        line = by_image[row["image"]]
        assert [row["class"], row["class_2"], row["class_3"]] == [c["name"] for c in line["classes"]]
        assert float(row["probability"]) == pytest.approx(line["classes"][0]["probability"], abs=1e-6)
        assert (row["truth"] or None) == line.get("truth") and "error" not in row
    known = [line for line in lines if "truth" in line]
    assert sorted(line["truth"] for line in known) == sorted(world.classes)
    true, found = [line["truth"] for line in known], [line["classes"][0]["name"] for line in known]
    scores = json.loads((report / "scores.json").read_text())
    assert scores["accuracy"] == pytest.approx(100 * accuracy_score(true, found))
    in_training = json.loads((world.runs["ADAPTER"] / "results.json").read_text())["metrics"]
    assert scores["accuracy"] == in_training["accuracy"] and scores["macro_f1"] == pytest.approx(in_training["macro_f1"])
    precision, recall, _, images = precision_recall_fscore_support(true, found, labels=world.classes, zero_division=np.nan)
    for entry, p, r, n in zip(scores["per_class"], precision, recall, images):
        assert entry["images"] == n and entry["recall"] == pytest.approx(100 * r)
        assert entry["precision"] is None if np.isnan(p) else entry["precision"] == pytest.approx(100 * p)
    wrong = [line for line in known if not line["correct"]]
    assert len(rows_of(report / "mistakes.csv")) == len(wrong) == 10 - scores["correct"] > 0
    with Image.open(report / "mistakes-1.png") as sheet, Image.open(report / "confusion.png") as confusion:
        assert sheet.width == 1200 and min(confusion.size) > 400
    confusion = [list(map(int, row[1:])) for row in list(csv.reader((report / "confusion.csv").read_text().splitlines()))[1:]]
    assert sum(map(sum, confusion)) == 10 and sum(confusion[i][i] for i in range(10)) == scores["correct"]
    assert f"Accuracy {scores['accuracy']:.2f} %" in out


def test_top_5_by_hand(world, mocoop):
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3], [1, 2, 3, 4, 5, 6, 7], [1, 0, 0, 0, 0, 0, 0]])
    scores = scoring.Scores(list("abcdefg"))
    scores.add(logits, [4, 1, 0])
    report = scores.report()
    assert (report["correct"], report["top_5"]) == (1, pytest.approx(200 / 3))
    few = scoring.Scores(list("abc"))
    few.add(logits[:, :3], [0, 0, 1])
    assert "top_5" not in few.report() and few.report()["per_class"][2] == {
        "class": "c", "images": 0, "predicted": 1, "precision": 0.0, "recall": None, "f1": 0.0
    }  # fmt: skip


def test_unreadable_images_are_named_and_the_others_classified(world, photos, tmp_path, capfd):
    (photos / "River").mkdir(exist_ok=True)
    (photos / "River" / "cut.jpg").write_bytes(b"\xff\xd8\xff cut")
    (photos / "empty.png").touch()
    files = [tmp_path / f"p.{kind}" for kind in ("csv", "json", "jsonl")]
    outputs = [word for file in files for word in ("--output", file)]
    status, _, err = command(capfd, "--model-dir", world.runs["CoOp"], photos, *outputs)
    assert status == predict.EXIT_UNREADABLE == 3
    assert "2 image(s) can't be read:" in err and "River/cut.jpg" in err and "empty.png" in err
    rows = rows_of(files[0])
    assert len(rows) == 14 and [row["image"] for row in rows if row["error"]] == [
        row["image"] for row in rows if not row["class"]
    ]
    assert len(json.loads(files[1].read_text())["images"]) == 12 and len(json.loads(files[1].read_text())["unreadable"]) == 2
    assert sum("error" in json.loads(line) for line in files[2].read_text().splitlines()) == 2
    for path in gathering.gather([str(photos)]).images:
        open(path, "wb").close()
    status, out, err = command(capfd, "--model-dir", world.runs["CoOp"], photos)
    assert status == 2 and out == "" and "no image can be read" in err


def test_report_needs_classes(world, tmp_path, capfd):
    shutil.copy(world.images[0], tmp_path / "a.png")
    status, out, err = command(capfd, "--model-dir", world.runs["CoOp"], tmp_path, "--report", tmp_path / "report")
    assert status == 2 and "--report: no folder of these images has the name of a class" in one_error(err)
    assert not (tmp_path / "report").exists()


def test_no_cell_is_a_formula():
    text = as_csv([["=1+1", "+a", "-b", "@c", "\td", "a=b", None, -1.5]])
    assert next(csv.reader([text])) == ["'=1+1", "'+a", "'-b", "'@c", "'\td", "a=b", "", "-1.5"]


def test_folders_in_a_circle_and_images_named_twice(photos, capfd, world):
    (photos / "Forst" / "up").symlink_to(photos)
    found = gathering.gather([str(photos), str(photos / "loose.png")])
    assert len(found.images) == 12 and found.twice == 1
    assert len(set(found.images)) == 12


def test_folder_names_of_published_sets(world):
    """EuroSAT's folders are called otherwise than its classes; two classes of one name are no folder's."""
    results = {"dataset": "EuroSAT", "class_folders": {"k17": "kilim rug"}}
    dataset = gathering.dataset_of(results)
    names = gathering.folder_names(results, [*world.classes, "kilim rug", "crane", "Crane"], dataset)
    assert names["annualcrop"] == "Annual Crop Land" and names["k17"] == "kilim rug" and "crane" not in names


def test_kinds_of_images(world, mocoop, tmp_path):
    """A path, a PIL image, arrays and tensors of one image have the same logits, bit for bit."""
    path = world.images[3]
    image = read_image(path)
    array = np.asarray(image)
    kinds = [path, image, array, torch.from_numpy(array.copy()).permute(2, 0, 1), mocoop.transform(image)]
    alone = [next(mocoop.batches([kind])).logits for kind in kinds]
    assert all(torch.equal(alone[0], other) for other in alone[1:])
    found = mocoop(kinds, top=1)
    assert [p["image"] for p in found] == [path, 1, 2, 3, 4]
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert torch.equal(*[next(mocoop.batches([kind])).logits for kind in (grey, str(tmp_path / "grey.png"))])
    for wrong in (array.astype(np.float32), torch.zeros(3, 5, 5), array[:, :, :2], b"x", np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(UserError, match="the image 0 of the list"):
            mocoop([wrong])


def test_it_says_that_it_loads_before_anything_heavy(world):
    """The first line on stderr stands there before torch is imported."""
    code = (
        "import sys, predict, inference.run\n"
        "class Stop(Exception): pass\n"
        "def write(text):\n"
        "    heavy = {'torch', 'sklearn', 'matplotlib', 'open_clip'} & sys.modules.keys()\n"
        "    sys.stdout.write(f'{text.strip()}|{sorted(heavy)}'); raise Stop\n"
        "sys.stderr.write = write\n"
        "try: predict.main(sys.argv[1:])\n"
        "except Stop: pass\n"
    )
    words = ["--model-dir", str(world.runs["CoOp"]), str(world.images[0])]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True)
    line, heavy = done.stdout.split("|")
    assert line.startswith("Loading CoOp (ViT-B/16)") and heavy == "[]"


def test_probabilities_that_mislead_are_said_to(world):
    bins = [{"above": 0.9, "to": 1.0, "images": 10, "confidence": 0.99, "accuracy": 0.5}]
    assert scoring.calibration_note({}) == ""
    said = scoring.calibration_note({"calibration": bins, "metrics": {"ece": 49.0}, "split": "test"})
    assert said.startswith("Probabilities are too high: on its own 10 test images this run was right in 50.0 %")
    assert "99.0 % on average" in said
    assert scoring.calibration_note({"calibration": bins, "metrics": {"ece": 1.0}}).startswith("Probabilities: on its own")
