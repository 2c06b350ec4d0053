"""`python -m datasets.check`: counts, missing and unreadable images, and what it makes of each fault."""

import json

import pytest
from miniatures import MINIATURES, write_split

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
