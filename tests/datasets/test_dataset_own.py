"""Datasets of one's own: a folder of class folders, and dataset files written for CoOp that are dropped in."""

import json
import os
import re
import sys
import textwrap
from pathlib import Path

import pytest
from miniatures import write_image

import datasets
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets.check import quick_check


@pytest.fixture
def photos(tmp_path):
    for label, name in enumerate(("red_kite", "barn owl", "Heron")):
        for i in range(10):
            write_image(tmp_path / "photos" / name / f"{i}.png", label)
    (tmp_path / "photos" / ".cache").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def parted(tmp_path):
    """Folders that say the split themselves."""
    for part, n in (("train", 4), ("val", 1), ("test", 3)):
        for label, name in enumerate(("fox", "owl")):
            for i in range(n):
                write_image(tmp_path / "photos" / part / name / f"{part}_{i}.jpg", label)
    return tmp_path / "photos"


@pytest.mark.parametrize("outside", ["../photos", "data/../../photos", "{tmp}/photos", "/"])
def test_nothing_is_written_outside_the_data_folder(photos, tmp_path, build, outside):
    (tmp_path / "data").mkdir()
    before = sorted(photos.rglob("*"))
    with pytest.raises(UserError, match="outside the data folder .*give a folder above it as DATASET.ROOT"):
        build("ImageFolder", ROOT=str(tmp_path / "data"), FOLDER=outside.format(tmp=tmp_path))
    assert sorted(photos.rglob("*")) == before
    assert build("ImageFolder", FOLDER=str(photos)).num_classes == 3  # below it, by its full path


def test_folder_of_class_folders(photos, build):
    dataset = build("ImageFolder", FOLDER="photos")
    assert dataset.classnames == ["Heron", "barn owl", "red_kite"]
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (15, 6, 9)
    assert json.loads((photos / "split.json").read_text())["train"]
    again = build("ImageFolder", FOLDER="photos", NUM_SHOTS=2, SUBSAMPLE_CLASSES="base")
    assert again.classnames == ["Heron", "barn owl"] and len(again.train_x) == 4
    assert build("ImageFolder", FOLDER="photos").classnames == dataset.classnames  # split_fewshot/ is no class


def test_root_may_be_the_folder_itself(photos, build):
    assert build("ImageFolder", FOLDER="", ROOT=str(photos)).num_classes == 3


@pytest.mark.parametrize("with_val", [True, False])
def test_folders_that_say_the_split(parted, build, with_val):
    if not with_val:
        for image in (parted / "val").rglob("*.jpg"):
            image.unlink()
        for folder in (parted / "val" / "fox", parted / "val" / "owl", parted / "val"):
            folder.rmdir()
    dataset = build("ImageFolder", FOLDER="photos")
    assert dataset.classnames == ["fox", "owl"]
    assert (len(dataset.train_x), len(dataset.val or []), len(dataset.test)) == (8, 2 if with_val else 0, 6)
    assert {os.path.relpath(i.impath, parted).split(os.sep)[0] for i in dataset.test} == {"test"}
    assert not (parted / "split.json").exists()


def test_yaml_and_no_code(photos, make_cfg, tmp_path):
    path = tmp_path / "photos.yaml"
    path.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: photos\n")
    cfg = make_cfg("EuroSAT")
    cfg.merge_from_file(str(path))
    assert DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg).num_classes == 3


@pytest.mark.parametrize(
    "folder, change, words",
    [
        ("fotos", None, "fotos (DATASET.FOLDER below DATASET.ROOT) must be a folder"),
        ("photos", "empty class", "no images in the class folder"),
        ("photos", "flat", "must be a folder that holds a folder of images per class"),
    ],
)
def test_messages(folder, change, words, photos, build, tmp_path):
    if change == "empty class":
        (photos / "wren").mkdir()
    if change == "flat":
        folder = "photos/Heron"
    with pytest.raises(UserError) as error:
        build("ImageFolder", FOLDER=folder)
    assert words in str(error.value) and str(tmp_path) in str(error.value)


def test_class_that_training_lacks(parted, build):
    write_image(parted / "test" / "wolf" / "1.jpg")
    with pytest.raises(UserError, match="has 1 image.* of a class 'wolf' that .*train lacks"):
        build("ImageFolder", FOLDER="photos")


@pytest.fixture
def birds(monkeypatch):
    """A dataset class as docs/datasets.md shows one."""
    monkeypatch.setattr(DATASET_REGISTRY, "_obj_map", dict(DATASET_REGISTRY._obj_map))

    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    snippet = textwrap.dedent(re.search(r"datasets/birds.py`:\n\n((?:    .*\n|\n)+)", page)[1])
    names = {}
    exec(compile(snippet, "docs/datasets.md", "exec"), names)
    Birds = names["Birds"]
    Birds.dataset_dir, Birds.image_folder = "photos", "."
    Birds.ignored, Birds.new_names = ("split_fewshot",), {"red_kite": "kite"}
    return Birds


def test_class_of_few_lines(birds, photos, build, capsys):
    dataset = build("Birds", NUM_SHOTS=1)
    assert dataset.classnames == ["Heron", "barn owl", "kite"] and len(dataset.train_x) == 3
    assert "published" not in capsys.readouterr().out


def test_class_without_data_and_without_sources(birds, build, tmp_path):
    """There is nothing to download, so no message says so."""
    with pytest.raises(UserError) as error:
        build("Birds")
    assert f"Birds: {tmp_path / 'photos'} (its images) doesn't exist; put it there" in str(error.value)


# As dataset files of the CoOp family are written: own split with the helpers of OxfordPets and DescribableTextures.
OWN_FILE = """
import os

from dassl.data.datasets import DATASET_REGISTRY, Datum, DatasetBase
from dassl.utils import mkdir_if_missing

from .dtd import DescribableTextures as DTD
from .oxford_pets import OxfordPets


@DATASET_REGISTRY.register()
class DroppedIn(DatasetBase):
    dataset_dir = "photos"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.split_path = os.path.join(self.dataset_dir, "split_mine.json")
        mkdir_if_missing(os.path.join(self.dataset_dir, "split_fewshot"))
        if os.path.exists(self.split_path):
            train, val, test = OxfordPets.read_split(self.split_path, self.dataset_dir)
        else:
            trainval, _, test = DTD.read_and_split_data(self.dataset_dir, p_trn=0.7, p_val=0.0,
                                                        ignored=["split_fewshot"], new_cnames={"Heron": "grey heron"})
            trainval = [Datum(impath=i.impath, label=i.label, classname=i.classname) for i in trainval]
            train, val = OxfordPets.split_trainval(trainval)
            OxfordPets.save_split(train, val, test, self.split_path, self.dataset_dir)
        train = self.generate_fewshot_dataset(train, num_shots=cfg.DATASET.NUM_SHOTS)
        train, val, test = OxfordPets.subsample_classes(train, val, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, val=val, test=test)
"""


def test_dataset_file_of_the_coop_family_is_picked_up(photos, build, make_cfg, tmp_path, monkeypatch):
    """A file in the package's folder (here: a further folder of the package) needs no further step."""
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "dropped_in.py").write_text(OWN_FILE)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path / "plugin")])
    monkeypatch.setattr(DATASET_REGISTRY, "_obj_map", dict(DATASET_REGISTRY._obj_map))
    try:
        datasets.import_all()
    finally:
        sys.modules.pop("datasets.dropped_in", None)
    for half, sizes, names in (
        ("all", (6, 3, 9), ["grey heron", "barn owl", "red_kite"]),
        ("base", (4, 2, 6), ["grey heron", "barn owl"]),
        ("new", (2, 1, 3), ["red_kite"]),
    ):
        dataset = build("DroppedIn", NUM_SHOTS=2, SUBSAMPLE_CLASSES=half)
        assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == sizes
        assert dataset.classnames == names
    quick_check(make_cfg("DroppedIn"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("def f(:\n    pass\n", "SyntaxError: invalid syntax"),
        ("import no_such_package_at_all\n", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        (OWN_FILE.replace("class DroppedIn", "class EuroSAT"), 'the dataset "EuroSAT" is defined by datasets.eurosat already'),
        (OWN_FILE + "\nraise SystemExit(1)\n", "SystemExit: 1"),
    ],
)
def test_a_bad_file_is_left_out_and_named(text, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "dropped_in.py").write_text(text)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    for name, value in (("_obj_map", dict(DATASET_REGISTRY._obj_map)), ("left_out", {})):
        monkeypatch.setattr(DATASET_REGISTRY, name, value)
    datasets.import_all()
    sys.modules.pop("datasets.dropped_in", None)
    said = capsys.readouterr().err
    assert said.startswith("Note: datasets/dropped_in.py is left out: ") and message in said and said.count("\n") == 1
    assert DATASET_REGISTRY.get("EuroSAT").__module__ == "datasets.eurosat"
    with pytest.raises(UserError, match="datasets/dropped_in.py is left out"):
        DATASET_REGISTRY.get("DroppedIn")


def fill(folder, classes=("fox", "owl"), n=4, suffix=".png"):
    for label, name in enumerate(classes):
        for i in range(n):
            write_image(folder / name / f"{i}{suffix}", label)


@pytest.mark.parametrize("names, sizes", [
    (("Train", "Test"), (8, 0, 8)),
    (("training", "testing"), (8, 0, 8)),
    (("train", "valid", "test"), (8, 8, 8)),
    (("TRAIN", "Validation", "TEST"), (8, 8, 8)),
])  # fmt: skip
def test_other_names_of_parts(names, sizes, build, tmp_path, capsys):
    for name in names:
        fill(tmp_path / "photos" / name)
    dataset = build("ImageFolder", FOLDER="photos")
    assert tuple(map(len, (dataset.train_x, dataset.val or [], dataset.test))) == sizes
    assert f"{names[-2]}/ is read as" in capsys.readouterr().out


@pytest.mark.parametrize("names, words", [
    (("train", "val"), "has train/, val/ but no test/: give it test/<class>/"),
    (("test",), "has test/ but no train/"),
    (("train", "Training", "test"), "has two folders for train"),
])  # fmt: skip
def test_incomplete_parts(names, words, build, tmp_path):
    for name in names:
        fill(tmp_path / "photos" / name)
    with pytest.raises(UserError) as error:
        build("ImageFolder", FOLDER="photos")
    assert words in str(error.value) and "remove" not in str(error.value)


def test_a_class_called_train(build, tmp_path):
    fill(tmp_path / "photos", ("train", "car"), 6)
    assert build("ImageFolder", FOLDER="photos").classnames == ["car", "train"]


def test_what_is_left_out_is_counted(photos, build, capsys):
    for path in ("Heron/more/1.png", "Heron/more/deep/2.png"):
        write_image(photos / path)
    for path in ("Heron/a.heic", "red_kite/notes.txt", "red_kite/LICENSE", "Heron/.DS_Store"):
        (photos / path).write_bytes(b"x")
    build("ImageFolder", FOLDER="photos")
    out = capsys.readouterr().out
    for part in ("2 image(s) in sub-folders", "1 .heic file(s)", "1 .txt file(s)", "1 file(s) without a suffix"):
        assert part in out
    write_image(photos / "Heron" / "later.JPG")
    build("ImageFolder", FOLDER="photos")
    assert "1 image(s) are not in" in capsys.readouterr().out


def test_images_in_sub_folders_of_a_class(build, tmp_path, capsys):
    for name in ("fox", "owl"):
        for year in ("2023", "2024/spring", "."):
            for i in range(3):
                write_image(tmp_path / "photos" / name / year / f"{i}.jpg", i)
    (tmp_path / "photos" / "fox" / "2023" / "notes.txt").write_text("x")
    dataset = build("ImageFolder", FOLDER="photos", NESTED=True)
    assert sum(map(len, (dataset.train_x, dataset.val, dataset.test))) == 18 and dataset.classnames == ["fox", "owl"]
    out = capsys.readouterr().out
    assert "not used are 1 .txt file(s)" in out and "sub-folders" not in out
    for part in ("train", "test"):
        for name in ("fox", "owl"):
            write_image(tmp_path / "parted" / part / name / "deep" / "1.jpg")
    assert len(build("ImageFolder", FOLDER="parted", NESTED=True).test) == 2


def test_folder_that_is_one_too_high(build, tmp_path):
    fill(tmp_path / "photos" / "images")
    with pytest.raises(UserError, match="holds one folder only, images, with folders in it: set DATASET.FOLDER photos/images"):
        build("ImageFolder", FOLDER="photos")


def test_class_whose_images_are_elsewhere(photos, build):
    (photos / "wren").mkdir()
    (photos / "wren" / "1.heic").write_bytes(b"x")
    write_image(photos / "wren" / "more" / "1.png")
    with pytest.raises(UserError, match=r"wren: it holds 1 .heic file\(s\), 1 image\(s\) in sub-folders; images"):
        build("ImageFolder", FOLDER="photos")


@pytest.mark.parametrize("suffix", [".jfif", ".JPG", ".Png", ".jpe"])
def test_suffixes(suffix, build, tmp_path):
    fill(tmp_path / "photos", n=6, suffix=suffix)
    assert len(build("ImageFolder", FOLDER="photos").train_x) == 6


@pytest.mark.parametrize("n, sizes", [(2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_small_classes(n, sizes, build, tmp_path):
    fill(tmp_path / "photos", ("a",), n)
    dataset = build("ImageFolder", FOLDER="photos")
    assert tuple(map(len, (dataset.train_x, dataset.val or [], dataset.test))) == sizes


def test_samples_are_no_class_wherever_they_lie(parted, build):
    build("ImageFolder", FOLDER="photos/train", NUM_SHOTS=1)
    assert (parted / "train" / "split_fewshot").is_dir()
    assert build("ImageFolder", FOLDER="photos").classnames == ["fox", "owl"]


@pytest.mark.parametrize("val", [[], None, "missing"])
def test_no_validation_images(val, photos, build):
    """Every reader takes what every writer writes: split file, sample of ours, published sample."""
    build("ImageFolder", FOLDER="photos")
    path = photos / "split.json"
    split = json.loads(path.read_text())
    split = {**split, "val": val} if val != "missing" else {k: v for k, v in split.items() if k != "val"}
    path.write_text(json.dumps(split))
    for _ in range(2):
        dataset = build("ImageFolder", FOLDER="photos", NUM_SHOTS=2)
        assert len(dataset.train_x) == 6 and not dataset.val
        assert build("ImageFolder", FOLDER="photos", NUM_SHOTS=2, SUBSAMPLE_CLASSES="new").num_classes == 1


def test_images_beside_class_folders(parted, build, capsys):
    for path in ("0.png", "train/1.png", "test/2.png"):
        write_image(parted / path)
    dataset = build("ImageFolder", FOLDER="photos")
    assert dataset.classnames == ["fox", "owl"] and len(dataset.train_x) == 8
    assert "3 image(s) lie beside the class folders" in capsys.readouterr().out


def test_fewer_images_than_shots(photos, build, capsys):
    assert len(build("ImageFolder", FOLDER="photos", NUM_SHOTS=16).train_x) == 15
    assert "WARNING: 3 of 3 classes have fewer than 16 training images; all of theirs are taken" in capsys.readouterr().out
