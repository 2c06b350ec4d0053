"""Splits: which image is for training, validation and test.

A split file is JSON, `{"train": [[path, label, class name], ...], "val": [...], "test": [...]}`, with paths relative to
the dataset's image folder. The format, and the 50/20/30 rule for datasets without an official split, are those that
CoOp's descendants share, so split files can be exchanged with them.
"""

import math
import os
import posixpath
import random

from basics import UserError, read_json, write_json
from dassl.data.datasets import Datum

from .listing import list_class_folders, list_images, no_images

PARTS = ("train", "val", "test")
# A split that we have to make is made with this seed whatever the run's seed is: otherwise the split, and with it the
# samples of every later run, would depend on which seed happened to run first.
SPLIT_SEED = 1


class Item(Datum):
    """A labelled image whose file is not looked for one by one, which takes minutes on a network drive.

    `SplitDataset.require_images` checks the images that a run uses, folder by folder.
    """

    def __init__(self, impath, label, classname, domain=0):
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname


def relative_path(impath, folder):
    """Path of an image below `folder`, with forward slashes: the form that split and few-shot files hold."""
    if impath.startswith(folder + "/"):  # spares ImageNet's 1.3 million paths the slow relpath
        return impath[len(folder) + 1 :]
    return os.path.relpath(impath, folder).replace(os.sep, "/")


def check_entries(entries, where, path):
    """Raise UserError unless `entries` is a list of [relative path, label, class name].

    Args:
        entries: what a JSON file holds under a key.
        where: the key, for the message.
        path: the file, for the message.
    """
    if not isinstance(entries, list):
        raise UserError(f'{path}: "{where}" must be a list of [path, label, class name], but is {type(entries).__name__}')
    for i, entry in enumerate(entries):
        place = f'{path}: entry {i} of "{where}"'
        if not isinstance(entry, list) or len(entry) != 3:
            raise UserError(f"{place} must be [path, label, class name], but is {entry!r}")
        impath, label, classname = entry
        if not isinstance(impath, str) or not impath:
            raise UserError(f"{place}: the path must be a non-empty string, but is {impath!r}")
        if posixpath.isabs(impath) or ".." in impath.replace("\\", "/").split("/"):
            raise UserError(f"{place}: the path must be relative to the image folder and stay inside it, but is {impath!r}")
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise UserError(f"{place}: the label must be an integer from 0, but is {label!r}")
        if not isinstance(classname, str) or not classname.strip():
            raise UserError(f"{place}: the class name must be a non-empty string, but is {classname!r}")


def _check_labels(data, path):
    """Raise UserError unless every label has one name, labels run from 0 without a gap, and train has all of them."""
    first = {}
    for part in PARTS:
        for i, (_, label, classname) in enumerate(data[part]):
            known, place = first.setdefault(label, (classname, f'entry {i} of "{part}"'))
            if known != classname:
                raise UserError(
                    f'{path}: label {label} is called {known!r} in {place} but {classname!r} in entry {i} of "{part}"'
                )
    gap = next((label for label in range(len(first)) if label not in first), None)
    if gap is not None:
        raise UserError(
            f"{path}: labels must run from 0 without a gap, but no entry has label {gap} (highest label: {max(first)})"
        )
    missing = sorted(set(first) - {label for _, label, _ in data["train"]})
    if missing:
        label = missing[0]
        raise UserError(
            f'{path}: label {label} ({first[label][0]!r}) has no entry in "train"; every class needs at least one training image'
        )


def _warn_of_repetition(data, path):
    """Say so where an image stands in a split twice: the mark of a damaged path, or of a test image in training."""
    first, repeated = {}, []
    for part in PARTS:
        for i, (impath, _, _) in enumerate(data[part]):
            place = f'entry {i} of "{part}"'
            if first.setdefault(impath, place) != place:
                repeated.append((impath, first[impath], place))
    if repeated:
        impath, before, place = repeated[0]
        print(
            f"WARNING: {path} has {len(repeated)} image(s) more than once, first {impath!r} in {before} and {place}; "
            f"if that isn't meant, the file is damaged"
        )


def read_split(filepath, path_prefix):
    """Read and check a split file.

    Args:
        filepath: the JSON file.
        path_prefix: the folder that its paths are relative to.

    Returns:
        Three lists of Item: train, val, test.

    Raises:
        UserError: the file is missing or malformed (the message names file and entry).
    """
    print(f"Reading split from {filepath}")
    data = read_json(filepath)
    if not isinstance(data, dict) or any(part not in data for part in ("train", "test")):
        raise UserError(f'{filepath} is not a split file: it must be an object with the keys "train", "val" and "test"')
    if data.get("val") is None:
        data = {**data, "val": []}
    for part in PARTS:
        check_entries(data[part], part, filepath)
    for part in ("train", "test"):
        if not data[part]:
            raise UserError(f'{filepath}: "{part}" is empty')
    _check_labels(data, filepath)
    _warn_of_repetition(data, filepath)
    return tuple(to_data(data[part], path_prefix) for part in PARTS)


def to_data(entries, path_prefix):
    """[path, label, class name] entries to a list of Item with paths below `path_prefix`."""
    return [
        Item(impath=os.path.join(path_prefix, impath), label=label, classname=classname) for impath, label, classname in entries
    ]


def to_entries(data, path_prefix):
    """A list of Item to [path relative to `path_prefix`, label, class name] entries."""
    return [[relative_path(item.impath, path_prefix), item.label, item.classname] for item in data]


def save_split(train, val, test, filepath, path_prefix):
    """Write a split file, atomically."""
    split = {part: to_entries(data or [], path_prefix) for part, data in zip(PARTS, (train, val, test))}
    if keep(split, filepath):
        print(f"Saved split to {filepath}")


def keep(obj, path):
    """Write `obj` as JSON, atomically, for later runs.

    Returns:
        True, or False (with a printed note) where that isn't possible: what is kept here can always be made again, so
        a read-only data folder must not stop a run.
    """
    try:
        write_json(obj, path)
    except UserError as error:
        print(f"Note: {error}; going on without it")
        return False
    return True


def split_trainval(trainval, p_val=0.2):
    """Take `p_val` of every class from an official training set for validation.

    Returns:
        Two lists of Item: train, val. The draw is seeded; Python's global generator is left alone.
    """
    rng = random.Random(SPLIT_SEED)
    train, val = [], []
    for items in group_by_label(trainval).values():
        items = list(items)
        rng.shuffle(items)
        n_val = round(len(items) * p_val)
        val.extend(items[:n_val])
        train.extend(items[n_val:])
    return train, val


def split_by_ratio(groups, p_trn=0.5, p_val=0.2):
    """Split every class: 50 % train, 20 % val, the rest test, after a seeded shuffle.

    Args:
        groups: list of (list of Item of one class in sorted order, name of the class's source for messages).

    Returns:
        Three lists of Item: train, val, test.
    """
    print(f"Splitting into {p_trn:.0%} train, {p_val:.0%} val, and {1 - p_trn - p_val:.0%} test")
    rng = random.Random(SPLIT_SEED)
    train, val, test = [], [], []
    for items, source in groups:
        items = list(items)
        rng.shuffle(items)
        n_train = round(len(items) * p_trn)
        n_val = round(len(items) * p_val)
        if n_train > 1 and n_train + n_val == len(items):  # three images: one for each part
            n_train -= 1
        if n_train < 1 or n_train + n_val >= len(items):
            raise UserError(f"{source} has {len(items)} image(s), too few to split into train, val and test; add images")
        train.extend(items[:n_train])
        val.extend(items[n_train : n_train + n_val])
        test.extend(items[n_train + n_val :])
    return train, val, test


def read_class_folders(image_dir, ignored=(), new_names=None, nested=False):
    """Images of a folder of class folders, one list per class.

    Args:
        image_dir: folder whose sub-folders are the classes; labels follow their sorted order.
        ignored: names of folders that are no class.
        new_names: {folder name: class name} where they differ.
        nested: images in sub-folders of a class folder are the class's, too.

    Returns:
        List of (list of Item, class folder), for `split_by_ratio`.
    """
    new_names = new_names or {}
    groups = []
    for label, folder in enumerate(list_class_folders(image_dir, ignored)):
        path = os.path.join(image_dir, folder)
        items = [
            Item(impath=os.path.join(path, name), label=label, classname=new_names.get(folder, folder))
            for name in list_images(path, nested)
        ]
        if not items:
            raise UserError(no_images(path))
        groups.append((items, path))
    if not groups:
        raise UserError(f"no class folders in {image_dir}; each class needs a folder of images")
    return groups


def group_by_label(data):
    """{label: list of Item}, labels in order of first appearance."""
    groups = {}
    for item in data:
        groups.setdefault(item.label, []).append(item)
    return groups


def classnames_by_label(data):
    """Class names of `data` in label order."""
    names = {item.label: item.classname for item in data}
    return [names[label] for label in sorted(names)]


def base_labels(data):
    """The labels of the base classes: the first ceil(n / 2) of the sorted labels."""
    labels = sorted({item.label for item in data})
    return labels[: math.ceil(len(labels) / 2)]


def subsample_classes(*args, subsample="all", held_out=()):
    """Keep the base or the new classes and relabel them from 0.

    The labels of the first list are sorted; the first ceil(n / 2) are the base classes, the rest are the new ones.

    Args:
        *args: lists of Item (train, val, test).
        subsample: "all", "base" or "new" (DATASET.SUBSAMPLE_CLASSES).
        held_out: labels of base classes that play the new ones: "new" keeps them alone, "base" the other base classes.

    Returns:
        As many lists as were given.

    Raises:
        UserError: another value of `subsample`, or nothing would be left.
    """
    if subsample not in ("all", "base", "new"):
        raise UserError(f"DATASET.SUBSAMPLE_CLASSES must be all, base or new, but is {subsample!r}")
    if subsample == "all":
        return args
    labels, base = sorted({item.label for item in args[0]}), base_labels(args[0])
    print(f"SUBSAMPLE {subsample.upper()} CLASSES!")
    if held_out:
        kept = list(held_out) if subsample == "new" else [label for label in base if label not in held_out]
    else:
        kept = base if subsample == "base" else labels[len(base) :]
    if not kept:
        raise UserError(f"DATASET.SUBSAMPLE_CLASSES {subsample} leaves no class: the dataset has {len(labels)}")
    relabel = {label: new for new, label in enumerate(kept)}
    return tuple(
        [
            Item(impath=item.impath, label=relabel[item.label], domain=item.domain, classname=item.classname)
            for item in data or ()
            if item.label in relabel
        ]
        for data in args
    )
