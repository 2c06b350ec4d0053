"""`python -m datasets.check`: counts, missing and unreadable images, and what it makes of each fault."""

import json

import numpy as np
import pytest
from miniatures import MINIATURES, write_image, write_split
from PIL import Image

from datasets.check import main
from datasets.names import find_dataset


@pytest.fixture
def counts(monkeypatch):
    """Function: make the expected counts of a dataset those of its miniature."""

    def set_counts(name, mini):
        monkeypatch.setattr(find_dataset(name), "counts", (len(mini.classnames), *mini.sizes))

    return set_counts


@pytest.mark.parametrize("name", MINIATURES)
def test_complete_dataset(name, tmp_path, counts, capsys):
    mini = MINIATURES[name](tmp_path)
    counts(name, mini)
    assert main([name, "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "all is well" in out and "PROBLEM" not in out
    for what, count in zip(("classes", "train", "val", "test"), (len(mini.classnames), *mini.sizes)):
        assert f"  {what:8}{count:>9}\n" in out


def test_counts_of_the_complete_dataset(tmp_path, capsys):
    """A miniature is not the complete dataset."""
    MINIATURES["EuroSAT"](tmp_path)
    assert main(["eurosat", "--root", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "expected 13500" in out and "PROBLEM: classes: 5, expected 10" in out


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_unreadable_images(content, tmp_path, counts, capsys):
    mini = MINIATURES["EuroSAT"](tmp_path)
    counts("EuroSAT", mini)
    bad = mini.images / "Forest" / "forest_0003.jpg"
    bad.write_bytes(bad.read_bytes()[:-80] if content is None else content)
    assert main(["EuroSAT", "--root", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "PROBLEM: 1 images can't be read" in out and str(bad) in out
    assert main(["EuroSAT", "--root", str(tmp_path), "--fast"]) == 0


def test_all_missing_images_are_listed(tmp_path, counts, capsys):
    mini = MINIATURES["EuroSAT"](tmp_path)
    write_split(mini)
    gone = [mini.images / "Forest" / f"forest_{i:04d}.jpg" for i in range(9)]
    for path in gone:
        path.unlink()
    assert main(["EuroSAT", "--root", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "9 of 50 images of the split are missing" in out and all(str(path) in out for path in gone)


def test_image_in_two_parts(tmp_path, counts, capsys):
    mini = MINIATURES["EuroSAT"](tmp_path)
    split = write_split(mini)
    split["test"].append(split["train"][0])
    (mini.folder / mini.split_file).write_text(json.dumps(split))
    assert main(["EuroSAT", "--root", str(tmp_path), "--fast"]) == 2
    assert "PROBLEM: 1 training images are also in val or test" in capsys.readouterr().out


def test_flat_imagenet(tmp_path, capsys):
    mini = MINIATURES["ImageNet"](tmp_path)
    val = mini.images / "val"
    for folder in list(val.iterdir()):
        for image in folder.iterdir():
            image.rename(val / image.name)
        folder.rmdir()
    assert main(["imagenet", "--root", str(tmp_path)]) == 2
    assert "in one flat folder" in capsys.readouterr().out


def test_several_with_a_missing_and_an_unknown_one(tmp_path, counts, capsys):
    mini = MINIATURES["SUN397"](tmp_path)
    counts("SUN397", mini)
    assert main(["SUN397", "Food101", "Fod101", "--root", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "all is well" in out and "python -m datasets.download Food101" in out and "did you mean food101" in out


def test_yaml_file(tmp_path, capsys):
    MINIATURES["EuroSAT"](tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: eurosat/2750\n")
    assert main([str(path), "--root", str(tmp_path)]) == 0
    assert "ImageFolder:" in capsys.readouterr().out


def folder_of(root, classes, n=6):
    for label, name in enumerate(classes):
        for i in range(n):
            write_image(root / "mine" / name / f"{i}.png", label)
    path = root / "mine.yaml"
    path.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: mine\n")
    return [str(path), "--root", str(root)]


def test_names_that_prompts_cannot_tell_apart(tmp_path, capsys):
    assert main(folder_of(tmp_path, ("red_kite", "Red kite", "owl"))) == 2
    assert 'PROBLEM: the classes "Red kite" and "red_kite" have the same tokens' in capsys.readouterr().out


def test_notes(tmp_path, capsys):
    """Nothing of it is wrong, all of it is said."""
    words = folder_of(tmp_path, ("n01440764", "owl", "7"), n=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 8)).save(tmp_path / "mine" / "owl" / "0.png", exif=exif)
    (tmp_path / "mine" / "owl" / "clip.mp4").write_bytes(b"x")
    assert main(words) == 0
    out = capsys.readouterr().out
    for part in ("class names are WordNet ids", "class names are numbers", "1 of 6 images have an EXIF orientation",
                 "1 .mp4 file(s)",
                 "there are no validation images", "all is well"):  # fmt: skip
        assert part in out


@pytest.mark.parametrize("values", [np.zeros((8, 8), np.int32), np.zeros((8, 8), np.float32)])
def test_images_of_unknown_range(values, tmp_path, capsys):
    words = folder_of(tmp_path, ("cat", "owl"))
    path = tmp_path / "mine" / "owl" / "0.tif"
    Image.fromarray(values).save(path)
    assert main(words) == 2
    out = capsys.readouterr().out
    assert "1 images can't be read" in out and str(path) in out and "nothing says which of them is white" in out


def test_values_of_a_yaml_file(tmp_path, capsys):
    words = folder_of(tmp_path, ("cat", "owl"))
    (tmp_path / "mine.yaml").write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: mine\n  CIFAR_C_LEVEL: 9\n")
    assert main(words) == 2
    assert "DATASET.CIFAR_C_LEVEL 9: must be a whole number from 1 to 5" in capsys.readouterr().out
