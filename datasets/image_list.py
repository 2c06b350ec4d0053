"""ImageList: your own images with several labels each, from a CSV or JSON Lines file, with a YAML file and no code.

    DATASET:
      NAME: ImageList
      FOLDER: street           # below DATASET.ROOT
      MULTI_LABEL: True

`street/labels.csv` has a header `image,labels` and, if you like, `split`; labels stand in one field with `;` between them.
`street/labels.jsonl` has an object a line: {"image": "1.jpg", "labels": ["car", "tree"], "split": "train"}. An image may have no
label. Without `split` (train, val or test) images are divided 50/20/30, by a shuffle that is the same everywhere. Templates are
those of `templates.txt` in the folder, as of ImageFolder.
"""

import csv
import io
import json
import os
import posixpath
import random

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase

from .annotations import read_lines
from .common import SplitDataset, data_root
from .fewshot import MAX_VAL_SHOTS
from .image_folder import ImageFolder
from .splits import PARTS, SPLIT_SEED, Item

FILES = ("labels.csv", "labels.jsonl")
BETWEEN = ";"
SHARES = (0.5, 0.7)  # where val and test begin, without a split of one's own


class LabelledItem(Item):
    """An image with any number of labels: `label` and `classname` are tuples, in label order.

    num_classes: of the data set.
    """

    def __init__(self, impath, label, classname, num_classes, domain=0):
        super().__init__(impath, tuple(label), tuple(classname), domain)
        self.num_classes = num_classes

    @property
    def target(self):
        """[C] float32, 1 at the image's labels."""
        import torch

        found = torch.zeros(self.num_classes)
        found[list(self.label)] = 1.0
        return found


@DATASET_REGISTRY.register()
class ImageList(SplitDataset):
    """Images with several labels; classes are the labels that occur, in sorted order.

    NUM_SHOTS: for each class, in label order, images that have it are drawn until the sample holds that many with it; those drawn
    for an earlier class count. So a frequent class may have more.
    """

    image_folder = "."
    photos_upright = True
    several_labels = True
    own_templates = classmethod(ImageFolder.own_templates.__func__)

    def __init__(self, cfg):
        self.dataset_dir = os.path.join(data_root(cfg), cfg.DATASET.FOLDER)
        self.prepare(cfg)
        path = label_file(self.dataset_dir)
        rows = read_labels(path)
        self.all_classnames = sorted({name for _, names, _ in rows for name in names})
        if len(self.all_classnames) < 2:
            raise UserError(f"{path}: {len(self.all_classnames)} label(s) occur; there must be two at least")
        parts = self._parts(rows, path)
        train, val = (self._sampled(parts[part], cfg, part) for part in ("train", "val"))
        self.require_images((train, val, parts["test"]))
        DatasetBase.__init__(self, train_x=train, val=val or None, test=parts["test"])

    @classmethod
    def preflight(cls, cfg):
        """Raise UserError unless there is a file of labels."""
        label_file(os.path.join(data_root(cfg), cfg.DATASET.FOLDER))

    def _parts(self, rows, path):
        """{part: items}, as the file says or by a shuffle."""
        if all(part for *_, part in rows):
            parts = [part for *_, part in rows]
        else:
            order = list(range(len(rows)))
            random.Random(SPLIT_SEED).shuffle(order)
            place = {number: position / len(rows) for position, number in enumerate(order)}
            parts = [PARTS[sum(place[number] >= share for share in SHARES)] for number in range(len(rows))]
            print("Splitting into 50% train, 20% val, and 30% test")
        number = {name: label for label, name in enumerate(self.all_classnames)}
        found = {part: [] for part in PARTS}
        for (image, names, _), part in zip(rows, parts, strict=True):
            labels = sorted(number[name] for name in names)
            classes = [self.all_classnames[label] for label in labels]
            found[part].append(LabelledItem(os.path.join(self.dataset_dir, image), labels, classes, len(number)))
        for part in ("train", "test"):
            if not found[part]:
                raise UserError(f"{path}: there are no images for {part}; give some images that split, or more images")
            missing = set(number) - {name for item in found[part] for name in item.classname}
            if missing and part == "train":
                raise UserError(f"{path}: no training image has the label {min(missing)!r}; give it one, or take the label out")
            if missing:
                print(f"WARNING: {path}: {len(missing)} label(s) have no test image, first {min(missing)!r}: they are not in mAP")
        return found

    def _sampled(self, data, cfg, part):
        shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
        if shots < 1:
            return data
        rng = random.Random(f"{part} {seed}") if seed >= 0 else random.SystemRandom()
        return several_label_sample(data, min(shots, MAX_VAL_SHOTS) if part == "val" else shots, rng)

    def _check_labels(self):
        """There is nothing to check: labels come from names."""

    @staticmethod
    def get_num_classes(data_source):
        return data_source[0].num_classes

    def get_lab2cname(self, data_source):
        return dict(enumerate(self.all_classnames)), list(self.all_classnames)


def several_label_sample(data, shots, rng):
    """`shots` images of each label (see ImageList), in the order of `data`; a label with fewer gives all it has.

    Args:
        data: list of LabelledItem. rng: a random.Random.
    """
    chosen = set()
    for label in sorted({label for item in data for label in item.label}):
        having = [number for number, item in enumerate(data) if label in item.label]
        left = [number for number in having if number not in chosen]
        missing = shots - (len(having) - len(left))
        if missing > 0:
            chosen.update(rng.sample(left, missing) if len(left) > missing else left)
    print(f"Creating a {shots}-shot dataset: {len(chosen)} of {len(data)} images")
    return [data[number] for number in sorted(chosen)]


def label_file(folder):
    """Path of the file of labels in a folder. UserError where there is none, or more than one."""
    there = [os.path.join(folder, name) for name in FILES if os.path.isfile(os.path.join(folder, name))]
    if len(there) != 1:
        what = "both" if there else "neither"
        raise UserError(
            f"ImageList: {folder} (DATASET.FOLDER below DATASET.ROOT) holds {what} {FILES[0]} {'and' if there else 'nor'} "
            f"{FILES[1]}: one of them says which labels each image has"
        )
    return there[0]


def read_labels(path):
    """[(image's path below the folder, [labels], "train", "val", "test" or "")] of a file, in its order.

    Raises:
        UserError: malformed, an image twice, or a split that some images lack; names file and line.
    """
    rows = _of_csv(path) if path.endswith(".csv") else _of_lines(path)
    seen = {}
    for place, image, names, part in rows:
        if not isinstance(image, str) or not image or posixpath.isabs(image) or ".." in image.replace("\\", "/").split("/"):
            raise UserError(f"{place}: the image must be a path below the folder of the file, but is {image!r}")
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise UserError(f"{place}: labels must be names, but are {names!r}")
        if part not in ("", *PARTS):
            raise UserError(f"{place}: the split must be train, val or test, but is {part!r}")
        if seen.setdefault(image, place) != place:
            raise UserError(f"{place}: {image!r} stands in {seen[image]}, too; give each image one line with all its labels")
    without = [place for place, *_, part in rows if not part]
    if without and len(without) < len(rows):
        raise UserError(f"{without[0]}: no split, though other images have one; give it to all of them or to none")
    return [(image, list(dict.fromkeys(name.strip() for name in names)), part) for _, image, names, part in rows]


def _of_csv(path):
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(io.StringIO(file.read()), strict=True)
            header = reader.fieldnames or []
            if not {"image", "labels"} <= set(header):
                raise UserError(f"{path}: its first line must name the columns image and labels, and may name split")
            rows = []
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if None in row or row["labels"] is None:
                    raise UserError(
                        f"{place}: other fields than the first line names; labels stand in one, with {BETWEEN} between them"
                    )
                names = [name.strip() for name in row["labels"].split(BETWEEN) if name.strip()]
                rows.append((place, row["image"], names, (row.get("split") or "").strip()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not rows:
        raise UserError(f"{path} names no image")
    return rows


def _of_lines(path):
    rows = []
    for place, line in read_lines(path):
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{place}: not JSON") from None
        if not isinstance(item, dict) or not {"image", "labels"} <= set(item):
            raise UserError(f"{place}: not an object with image and labels")
        rows.append((place, item["image"], item["labels"], item.get("split", "")))
    return rows
