"""Every dataset is read from its true format: names, labels, splits, base and new halves."""

import json
import math
import os

import pytest
import yaml
from miniatures import MINIATURES, WITH_SPLIT, write_split

from dassl.config import get_cfg_default

CONFIGS = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "fgvc_aircraft": "FGVCAircraft",
    "food101": "Food101",
    "imagenet": "ImageNet",
    "imagenet_a": "ImageNetA",
    "imagenet_r": "ImageNetR",
    "imagenet_sketch": "ImageNetSketch",
    "imagenetv2": "ImageNetV2",
    "oxford_flowers": "OxfordFlowers",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}


def names_by_label(data):
    """Class names in label order; fails if a label has two."""
    names = {}
    for item in data:
        assert names.setdefault(item.label, item.classname) == item.classname
    assert sorted(names) == list(range(len(names)))
    return [names[label] for label in sorted(names)]


def parts(dataset):
    return [dataset.train_x, dataset.val or [], dataset.test]


def rel(data, folder):
    return [(os.path.relpath(item.impath, folder), item.label, item.classname) for item in data]


def test_configs_name_every_dataset():
    """Upstream's file names, each loadable and naming a registered dataset."""
    from dassl.data.datasets import DATASET_REGISTRY

    assert set(CONFIGS.values()) == set(MINIATURES)
    for stem, name in CONFIGS.items():
        path = os.path.join(os.path.dirname(__file__), "..", "..", "configs", "datasets", f"{stem}.yaml")
        assert yaml.safe_load(open(path)) == {"DATASET": {"NAME": name}}
        cfg = get_cfg_default()
        cfg.merge_from_file(path)
        assert DATASET_REGISTRY.get(cfg.DATASET.NAME).__module__ == f"datasets.{stem}"


@pytest.mark.parametrize("name", MINIATURES)
def test_official_format(name, tmp_path, build):
    mini = MINIATURES[name](tmp_path)
    dataset = build(name)
    assert dataset.classnames == mini.classnames == dataset.all_classnames
    assert dataset.num_classes == len(mini.classnames)
    assert tuple(len(part) for part in parts(dataset)) == mini.sizes
    for part in parts(dataset):
        if part:
            assert names_by_label(part) == mini.classnames
        assert all(os.path.isfile(item.impath) for item in part)
    for classname, files in mini.files.items():
        found = {
            os.path.relpath(item.impath, mini.images) for part in parts(dataset) for item in part if item.classname == classname
        }
        assert found == set(files)


@pytest.mark.parametrize("name", [name for name in MINIATURES if not name.startswith("ImageNet")])
def test_train_val_and_test_share_no_image(name, tmp_path, build):
    MINIATURES[name](tmp_path)
    paths = [item.impath for part in parts(build(name)) for item in part]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("name", WITH_SPLIT)
def test_split_file(name, tmp_path, build, capsys):
    """The JSON split is taken as it is, in its order."""
    mini = MINIATURES[name](tmp_path)
    split = write_split(mini)
    dataset = build(name)
    for part, data in zip(("train", "val", "test"), parts(dataset)):
        assert rel(data, mini.images) == [tuple(entry) for entry in split[part]]
    assert f"Reading split from {mini.folder / mini.split_file}" in capsys.readouterr().out


@pytest.mark.parametrize("name", WITH_SPLIT)
def test_split_is_kept_and_read_again(name, tmp_path, build, capsys):
    """Made once, whatever the seed; the second run reads it and gives the same, few-shot sample included."""
    mini = MINIATURES[name](tmp_path)
    made = build(name, seed=3, NUM_SHOTS=2)
    assert "Reading split from" not in capsys.readouterr().out
    path = mini.folder / mini.split_file
    content = path.read_text()
    assert [tuple(e) for e in json.loads(content)["test"]] == rel(made.test, mini.images)
    for cached in (mini.folder / "split_fewshot").iterdir():
        cached.unlink()
    again = build(name, seed=3, NUM_SHOTS=2)
    assert "Reading split from" in capsys.readouterr().out
    assert [rel(part, mini.images) for part in parts(again)] == [rel(part, mini.images) for part in parts(made)]
    path.unlink()
    build(name, seed=1)
    assert path.read_text() == content


@pytest.mark.parametrize("name", MINIATURES)
@pytest.mark.parametrize("shots", [-1, 2])
def test_base_and_new(name, shots, tmp_path, build, capsys):
    """The first ceil(n / 2) classes are base, the rest new; both relabelled from 0; no class in both."""
    mini = MINIATURES[name](tmp_path)
    n_base = math.ceil(len(mini.classnames) / 2)
    whole = build(name, NUM_SHOTS=shots)
    halves = {half: build(name, NUM_SHOTS=shots, SUBSAMPLE_CLASSES=half) for half in ("base", "new")}
    out = capsys.readouterr().out
    assert "SUBSAMPLE BASE CLASSES!" in out and "SUBSAMPLE NEW CLASSES!" in out
    assert halves["base"].classnames == mini.classnames[:n_base]
    assert halves["new"].classnames == mini.classnames[n_base:]
    for half, dataset in halves.items():
        assert dataset.all_classnames == mini.classnames
        offset = 0 if half == "base" else n_base
        for part, all_classes in zip(parts(dataset), parts(whole)):
            expected = [(item.impath, item.label - offset) for item in all_classes if (item.label < n_base) == (half == "base")]
            assert [(item.impath, item.label) for item in part] == expected


@pytest.mark.parametrize("name", [name for name in MINIATURES if not name.startswith("ImageNet") or name == "ImageNet"])
def test_shots(name, tmp_path, build):
    """So many images of each training class; val up to four, except where val is the test set."""
    MINIATURES[name](tmp_path)
    dataset = build(name, NUM_SHOTS=3)
    n = dataset.num_classes
    assert sorted(item.label for item in dataset.train_x) == sorted(list(range(n)) * 3)
    if name == "ImageNet":
        assert [item.impath for item in dataset.val] == [item.impath for item in dataset.test]
    else:
        assert all(sum(item.label == label for item in dataset.val) <= 3 for label in range(n))


def test_variants_use_imagenets_class_names(tmp_path, build):
    """classnames.txt of imagenet/ serves where the variant has none of its own."""
    MINIATURES["ImageNet"](tmp_path)
    mini = MINIATURES["ImageNetA"](tmp_path)
    (mini.folder / "classnames.txt").unlink()
    assert build("ImageNetA").classnames == mini.classnames


def test_a_variant_knows_which_classes_of_imagenet_it_has(tmp_path, build):
    mini = MINIATURES["ImageNetA"](tmp_path)
    dataset = build("ImageNetA")
    names, rows = dataset.training_rows()
    assert [names[row] for row in rows] == dataset.classnames == mini.classnames and rows == sorted(rows)
    assert len(names) > len(rows)
    MINIATURES["ImageNetV2"](tmp_path)
    assert build("ImageNetV2").training_rows() is None
