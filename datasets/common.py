"""What all datasets share: from a folder on disk and a config to train, val and test of the chosen classes.

A dataset file says only what is its own: folder, image folder, split file, class names, and how to read the official
split where there is one. The order of things is the published one: split, few-shot sample, base/new selection.
"""

import os

from dassl.data.datasets import DatasetBase
from dassl.utils import UserError

from .fewshot import fewshot
from .splits import (classnames_by_label, read_class_folders, read_split, save_split, split_by_ratio, split_trainval,
                     subsample_classes)

__all__ = ["SplitDataset", "fewshot", "read_split", "require", "save_split", "split_trainval", "subsample_classes"]


class SplitDataset(DatasetBase):
    """A dataset with a split file in the lineage's JSON format.

    Class attributes:
        dataset_dir: folder below DATASET.ROOT (on an instance: its full path).
        image_folder: folder of the images below it; paths in the split file are relative to it.
        split_file: name of the split file in `dataset_dir`.
        ignored, new_names: class folders that are no class, and {folder: class name}, for `make_split`.

    Attributes:
        all_classnames: every class name in label order, before the base/new selection.

    Raises:
        UserError: data are missing or malformed; the message names the file and says what to do.
    """

    image_folder = "images"
    split_file = "split.json"
    ignored = ()
    new_names = {}

    def __init__(self, cfg):
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(self.root, self.dataset_dir)
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_folder))
        self.split_path = os.path.join(self.dataset_dir, self.split_file)
        self.split_fewshot_dir = os.path.join(self.dataset_dir, "split_fewshot")
        self.prepare(cfg)
        train, val, test = self.load_split()
        self.all_classnames = classnames_by_label(train)
        train, val = self.sample(cfg, train, val, test)
        train, val, test = subsample_classes(train, val, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        self.require_images((train, val, test))
        super().__init__(train_x=train, val=val, test=test)

    def prepare(self, cfg):
        """Hook: have the data in place, or raise UserError that says how to get them."""
        require(self.image_dir, self, "its images")

    def load_split(self):
        """Train, val and test (lists of Datum, all classes): from the split file, which is made if missing."""
        if os.path.exists(self.split_path):
            return read_split(self.split_path, self.image_dir)
        train, val, test = self.make_split()
        save_split(train, val, test, self.split_path, self.image_dir)
        return train, val, test

    def make_split(self):
        """Hook for a missing split file: the official split where there is one, else 50/20/30 per class folder."""
        print(f"No {self.split_path}: making a split, whose results can't be compared with published ones "
              f"(for the published split: {download_command(self)})")
        return split_by_ratio(read_class_folders(self.image_dir, self.ignored, self.new_names))

    def sample(self, cfg, train, val, test):
        """Train and val after few-shot sampling."""
        return fewshot(train, val, test, cfg.DATASET.NUM_SHOTS, cfg.SEED, self.split_fewshot_dir, self.image_dir)

    def require_images(self, parts):
        """Raise UserError if an image of `parts` (lists of Datum) is not on disk; lists each folder only once."""
        listings, missing, total = {}, [], 0
        for data in parts:
            for item in data:
                folder, name = os.path.split(item.impath)
                if folder not in listings:
                    listings[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
                total += 1
                if name not in listings[folder]:
                    missing.append(item.impath)
        if missing:
            raise UserError(f"{dataset_name(self)}: {len(missing)} of {total} images of the split are missing, first "
                            f"{missing[0]}; put them there, or get the dataset again: {download_command(self)}")


def dataset_name(dataset):
    """Name under which a dataset is registered: that of its class."""
    return type(dataset).__name__


def download_command(dataset):
    """The command that downloads a dataset, or says where it can be had."""
    return f"python -m datasets.download {dataset_name(dataset)} --root {dataset.root}"


def require(path, dataset, what):
    """Raise UserError unless `path` exists and, if it is a folder, has something in it.

    Args:
        path: file or folder.
        dataset: the dataset that needs it.
        what: what it holds, in words for the message.
    """
    problem = None
    if not os.path.exists(path):
        problem = "doesn't exist"
    elif os.path.isdir(path) and not os.listdir(path):
        problem = "is empty"
    if problem:
        raise UserError(f"{dataset_name(dataset)}: {path} ({what}) {problem}; run `{download_command(dataset)}`, "
                        f"or give another --root (docs/datasets.md shows the layout)")
