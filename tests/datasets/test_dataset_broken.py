"""Broken datasets: each gets its own message, which names the file or folder and what to do."""

import json
import os
import shutil

import pytest
from miniatures import MINIATURES, write_split
from scipy.io import savemat

from dassl.utils import UserError
from datasets.check import quick_check


def no_root(root):
    shutil.rmtree(root / "eurosat")
    os.rmdir(root)


def no_folder(root):
    shutil.rmtree(root / "eurosat")


def other_folder_name(root):
    (root / "food-101").rename(root / "food101")


def one_folder_too_deep(root):
    shutil.move(root / "eurosat" / "2750", root / "eurosat" / "EuroSAT" / "2750")


def empty_images(root):
    shutil.rmtree(root / "eurosat" / "2750")
    (root / "eurosat" / "2750").mkdir()


def missing_images(root):
    (root / "eurosat" / "2750" / "Forest" / "forest_0001.jpg").unlink()
    (root / "eurosat" / "2750" / "River" / "river_0002.jpg").unlink()


def empty_class(root):
    (root / "food-101" / "images" / "waffles").mkdir()


def too_few_images(root):
    for i in range(1, 10):
        (root / "food-101" / "images" / "sushi" / f"sushi_{i:04d}.jpg").unlink()


def flat_val(root):
    val = root / "imagenet" / "images" / "val"
    for folder in list(val.iterdir()):
        for image in folder.iterdir():
            shutil.move(image, val)
        folder.rmdir()


def no_train(root):
    shutil.rmtree(root / "imagenet" / "images" / "train")


def val_of_other_classes(root):
    val = root / "imagenet" / "images" / "val"
    (val / "n01440764").rename(val / "n09999999")


def no_classnames(root):
    (root / "imagenet-adversarial" / "classnames.txt").unlink()


def nameless_class(root):
    lines = (root / "imagenet" / "classnames.txt").read_text().splitlines()
    (root / "imagenet" / "classnames.txt").write_text("\n".join(line for line in lines if "tench" not in line))


def bad_classnames(root):
    (root / "imagenet" / "classnames.txt").write_text("n01440764 tench\nn01443537\n")


def gap_in_v2(root):
    shutil.rmtree(root / "imagenetv2" / "imagenetv2-matched-frequency-format-val" / "7")


def no_official_list(root):
    (root / "oxford_pets" / "annotations" / "test.txt").unlink()


def bad_official_list(root):
    (root / "oxford_pets" / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nAbyssinian_2 one 1 1\n")


def unknown_variant(root):
    with open(root / "fgvc_aircraft" / "images_variant_val.txt", "a") as f:
        f.write("1000017 Concorde\n")


def bad_mat(root):
    (root / "oxford_flowers" / "imagelabels.mat").write_bytes(b"<html>not found</html>")


def labels_without_class(root):
    savemat(root / "stanford_cars" / "cars_test_annos_withlabels.mat", {"annos": [1]})


def nameless_flower(root):
    (root / "oxford_flowers" / "cat_to_name.json").write_text('{"1": "pink primrose", "2": "orchid"}')


def unknown_scene(root):
    with open(root / "sun397" / "Testing_01.txt", "a") as f:
        f.write("/z/zoo/sun_1.jpg\n")


def unknown_action(root):
    with open(root / "ucf101" / "ucfTrainTestlist" / "testlist01.txt", "a") as f:
        f.write("Juggling/v_Juggling_g01_c01.avi\n")


def imagenet_as_kaggle_has_it(root):
    (root / "imagenet" / "ILSVRC" / "Data").mkdir(parents=True)
    (root / "imagenet" / "images").rename(root / "imagenet" / "ILSVRC" / "Data" / "CLS-LOC")


def imagenet_without_images_folder(root):
    for part in ("train", "val"):
        (root / "imagenet" / "images" / part).rename(root / "imagenet" / part)
    (root / "imagenet" / "images").rmdir()


def backslashes(root):
    folder, names = root / "eurosat", ("Forest", "River")
    rows = [[f"{name}\\{p.name}", i, name] for i, name in enumerate(names) for p in (folder / "2750" / name).iterdir()]
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps({part: rows for part in ("train", "val", "test")}))


# how it is broken: (dataset, words that the message must hold: the file or folder and what to do)
BROKEN = {
    no_root: ("EuroSAT", "itself doesn't exist", "--root"),
    no_folder: ("EuroSAT", "eurosat/2750 (its images) doesn't exist", "python -m datasets.download EuroSAT"),
    other_folder_name: ("Food101", "food101 looks like it", "rename that folder to food-101"),
    one_folder_too_deep: ("EuroSAT", "eurosat/EuroSAT/2750 looks like it", "move what is in EuroSAT/ up"),
    empty_images: ("EuroSAT", "eurosat/2750 (its images) is empty", "python -m datasets.download EuroSAT"),
    missing_images: ("EuroSAT", "2 of 50 images of the split are missing", "Forest/forest_0001.jpg", "unpack"),
    empty_class: ("Food101", "no images in the class folder", "food-101/images/waffles", "fill it"),
    too_few_images: ("Food101", "food-101/images/sushi has 1 image(s), too few", "add images"),
    backslashes: ("EuroSAT", "split_zhou_EuroSAT.json writes paths with backslashes", "replace them"),
    imagenet_as_kaggle_has_it: ("ImageNet", "ILSVRC/Data/CLS-LOC looks like it", "ln -s"),
    imagenet_without_images_folder: ("ImageNet", "imagenet looks like it: link it", "imagenet/images`"),
    flat_val: ("ImageNet", "imagenet/images/val holds the validation images in one flat folder", "devkit"),
    no_train: ("ImageNet", "imagenet/images/train (training images, a folder per class) doesn't exist", "download"),
    val_of_other_classes: ("ImageNet", "images/val/n09999999 is no class of the training set", "take it out of here"),
    no_classnames: ("ImageNetA", "imagenet-adversarial/classnames.txt (class names) doesn't exist", "copy it"),
    nameless_class: ("ImageNet", "n01440764 has no name in classnames.txt", "add the line"),
    bad_classnames: ("ImageNet", "classnames.txt, line 2", "n01440764 tench"),
    gap_in_v2: ("ImageNetV2", "format-val/7: class folder is missing", "unpack"),
    no_official_list: ("OxfordPets", "annotations/test.txt (official annotations", "no split_zhou_OxfordPets.json"),
    bad_official_list: ("OxfordPets", "trainval.txt, line 2", "class number", "'one'"),
    unknown_variant: ("FGVCAircraft", "images_variant_val.txt, line 11", "'Concorde' is not in variants.txt"),
    bad_mat: ("OxfordFlowers", "cannot read the MATLAB file", "imagelabels.mat", "download it again"),
    labels_without_class: ("StanfordCars", "cars_test_annos_withlabels.mat has no variable 'annotations'", "again"),
    nameless_flower: ("OxfordFlowers", 'cat_to_name.json has no name for class "3"', "download it again"),
    unknown_scene: ("SUN397", "Testing_01.txt, line 21", "'z/zoo' is not in ClassName.txt"),
    unknown_action: ("UCF101", "testlist01.txt, line 21", "no known class", "classInd.txt"),
}


def message_of(how, root, build):
    name = BROKEN[how][0]
    mini = MINIATURES[name](root)
    if how is missing_images:
        write_split(mini)
    how(root)
    with pytest.raises(UserError) as error:
        build(name)
    return str(error.value)


def test_every_fault_has_its_own_message(tmp_path, build):
    """It names the file or folder and what to do, on one line, and is no other fault's message."""
    messages = set()
    for how, (_, *words) in BROKEN.items():
        root = tmp_path / how.__name__
        root.mkdir()
        message = message_of(how, root, lambda name, root=root: build(name, ROOT=str(root)))
        for part in words:
            assert part in message, how.__name__
        assert str(root) in message and "\n" not in message, how.__name__
        messages.add(message.replace(str(root), ""))
    assert len(messages) == len(BROKEN) >= 10


@pytest.mark.parametrize(
    "how", [no_root, no_folder, empty_images, flat_val, no_train, no_classnames], ids=lambda how: how.__name__
)
def test_quick_check_finds_what_is_not_there(how, tmp_path, make_cfg):
    root = tmp_path / "data"
    root.mkdir()
    name = BROKEN[how][0]
    MINIATURES[name](root)
    cfg = make_cfg(name, ROOT=str(root))
    quick_check(cfg)
    how(root)
    with pytest.raises(UserError, match=name):
        quick_check(cfg)


def test_unknown_dataset(make_cfg):
    with pytest.raises(UserError, match="EuroSAT"):
        quick_check(make_cfg("EuroSAD"))


GOOD = ["Forest/forest_0000.jpg", 1, "Forest"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda split: [], "is not a split file"),
        (lambda split: split.pop("test") and split, '"train", "val" and "test"'),
        (lambda split: {**split, "val": {}}, '"val" must be a list'),
        (lambda split: {**split, "test": []}, '"test" is empty'),
        (lambda split: {**split, "val": [GOOD, "Forest"]}, 'entry 1 of "val" must be [path, label, class name]'),
        (lambda split: {**split, "val": [GOOD[:2]]}, 'entry 0 of "val" must be'),
        (lambda split: {**split, "val": [[GOOD[0], "1", "Forest"]]}, 'entry 0 of "val": the label must be an integer'),
        (lambda split: {**split, "val": [[GOOD[0], True, "Forest"]]}, "but is True"),
        (lambda split: {**split, "val": [[GOOD[0], 1.0, "Forest"]]}, "but is 1.0"),
        (lambda split: {**split, "val": [[GOOD[0], -1, "Forest"]]}, "but is -1"),
        (lambda split: {**split, "val": [[5, 1, "Forest"]]}, "the path must be a non-empty string"),
        (lambda split: {**split, "val": [["/etc/passwd", 1, "Forest"]]}, "must be relative"),
        (lambda split: {**split, "val": [["../../x.jpg", 1, "Forest"]]}, "must be relative"),
        (lambda split: {**split, "val": [[GOOD[0], 1, None]]}, "the class name must be"),
        (
            lambda split: {**split, "val": [[GOOD[0], 1, "Wood"]]},
            "label 1 is called 'Forest' in entry 4 of \"train\" but 'Wood' in entry 0 of \"val\"",
        ),
        (lambda split: {**split, "val": [[GOOD[0], 6, "Sea"]]}, "no entry has label 5"),
        (lambda split: {**split, "val": [[GOOD[0], 5, "Sea"]]}, "label 5 ('Sea') has no entry in \"train\""),
    ],
)
def test_malformed_split(change, words, tmp_path, build):
    mini = MINIATURES["EuroSAT"](tmp_path)
    path = mini.folder / mini.split_file
    path.write_text(json.dumps(change(write_split(mini))))
    with pytest.raises(UserError) as error:
        build("EuroSAT")
    assert str(path) in str(error.value) and words in str(error.value)


def test_split_that_is_no_json(tmp_path, build):
    mini = MINIATURES["EuroSAT"](tmp_path)
    for content in ('{"train": [\n["Forest/', "<html>quota exceeded</html>", "\xff"):
        (mini.folder / mini.split_file).write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match="split_zhou_EuroSAT.json"):
            build("EuroSAT")


@pytest.mark.parametrize("value", ["Base", "first", ""])
def test_unknown_subsample(value, tmp_path, build):
    MINIATURES["EuroSAT"](tmp_path)
    with pytest.raises(UserError, match="DATASET.SUBSAMPLE_CLASSES must be all, base or new"):
        build("EuroSAT", SUBSAMPLE_CLASSES=value)
