"""What all datasets share: from a folder on disk and a config to train, val and test of the chosen classes.

A dataset file says only what is its own: folder, image folder, split file, class names, and how to read the official
split where there is one. The order of things is the published one: split, few-shot sample, base/new selection.
"""

import os
from typing import Any

from basics import UserError, home
from dassl.data.datasets import DatasetBase

from .fewshot import fewshot, validation_sample
from .held_out import HoldsOut
from .layout import download_command, require
from .splits import (
    Item,
    classnames_by_label,
    read_class_folders,
    read_split,
    save_split,
    split_by_ratio,
    split_trainval,
    subsample_classes,
)

__all__ = [
    "Item",
    "SplitDataset",
    "data_root",
    "fewshot",
    "read_split",
    "require",
    "save_split",
    "split_trainval",
    "subsample_classes",
]


class SplitDataset(HoldsOut, DatasetBase):
    """A dataset with a split file in the lineage's JSON format.

    Class attributes:
        dataset_dir: folder below DATASET.ROOT (on an instance: its full path).
        image_folder: folder of the images below it; paths in the split file are relative to it.
        split_file: name of the split file in `dataset_dir`.
        required: (path below `dataset_dir`, what it is) of whatever else must be there.
        other_places: folders below `dataset_dir` whose parents people have in place of `image_folder`.
        ignored, new_names: class folders that are no class, and {folder: class name}, for `make_split`.
        sources, hub_sha256, aliases, instructions: for `datasets.download`: the files, the checksum of the zip on the
            Hugging Face hub where it is known beforehand, other names of the dataset's folder, and what to tell the
            user where nothing can be fetched.
        counts: (classes, train, val, test) of the complete dataset, 0 where unknown.
        printed_name: its name in the papers' tables, where that isn't its YAML file's.
        template: the hand-written prompt of zero-shot CLIP, as in the repository CoOp; templates: {method: another one, of
            that method's repository}. attributes: words of the repository ATPrompt. group_file: stem of its file in templates/,
            where that isn't the class's name.
        variant_of: YAML file's stem of the dataset whose classes it has and whose models it tests; builtin: whether the
            project draws it itself and has a model for it.

    Attributes:
        all_classnames: every class name in label order, before the base/new selection.

    Raises:
        UserError: data are missing or malformed; the message names the file and says what to do.
    """

    image_folder = "images"
    split_file = "split.json"
    required = ()
    other_places = ()
    ignored = ()
    new_names: dict[str, str] = {}
    sources = ()
    hub_sha256 = ""
    aliases = ()
    instructions = ""
    counts = (0, 0, 0, 0)
    printed_name = ""
    template = ""
    templates: dict[str, str] = {}
    attributes: tuple[str, ...] = ()
    group_file = ""
    variant_of = ""
    builtin = False

    def __init__(self, cfg):
        self.root = data_root(cfg)
        self.dataset_dir = os.path.join(self.root, self.dataset_dir)
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_folder))
        self.split_path = os.path.join(self.dataset_dir, self.split_file)
        self.split_fewshot_dir = os.path.join(self.dataset_dir, "split_fewshot")
        self.prepare(cfg)
        train, val, test = self.load_split()
        self.all_classnames = classnames_by_label(train)
        if self.counts[0] not in (0, len(self.all_classnames)):
            print(f"Note: {type(self).__name__} has {len(self.all_classnames)} classes here, {self.counts[0]} when complete")
        train, val = self.sample(cfg, train, val, test)
        missing = set(self.all_classnames) - set(classnames_by_label(train))
        if missing:
            raise UserError(
                f"{type(self).__name__}: the few-shot sample of {cfg.DATASET.NUM_SHOTS} images with seed {cfg.SEED} in "
                f"{self.split_fewshot_dir} has no image of the class {min(missing)!r}; give it one, or delete the file to have "
                "the sample drawn again"
            )
        if cfg.DATASET.HELD_OUT:
            test = self.hold_out(cfg, train, val, test)
        train, val, test = self.chosen(cfg, train, val, test)
        self.require_images((train, val, test))
        super().__init__(train_x=train, val=val or None, test=test)

    @classmethod
    def preflight(cls, cfg: Any) -> None:
        """Raise UserError unless the folders and files that the dataset can't do without are there. Takes no time."""
        if cls.prepare is not SplitDataset.prepare:
            return  # such a class makes its data itself
        root = data_root(cfg)
        for path, what in ((cls.image_folder, "its images"), *cls.required):
            require(os.path.normpath(os.path.join(root, cls.dataset_dir, path)), what, cls, root)

    @classmethod
    def arrange(cls, folder: str) -> None:
        """Hook of `datasets.download`: bring files that the user has put in the dataset's `folder` into the layout."""

    def record(self) -> dict[str, Any]:
        """Hook: {name: plain value} of what results.json is to say of the data set beside split and class names."""
        return {}

    def prepare(self, cfg: Any) -> None:
        """Hook: have the data in place, or raise UserError that says how to get them."""
        type(self).preflight(cfg)

    def load_split(self) -> tuple[list[Item], list[Item], list[Item]]:
        """Train, val and test (lists of Item, all classes): from the split file, which is made if missing."""
        if os.path.exists(self.split_path):
            return read_split(self.split_path, self.image_dir)
        train, val, test = self.make_split()
        save_split(train, val, test, self.split_path, self.image_dir)
        return train, val, test

    def make_split(self) -> tuple[list[Item], list[Item], list[Item]]:
        """Hook for a missing split file: the official split where there is one, else 50/20/30 per class folder."""
        if self.sources:
            print(
                f"No {self.split_path}: making a split, whose results can't be compared with published ones "
                f"(for the published split: {download_command(type(self), self.root)})"
            )
        return split_by_ratio(read_class_folders(self.image_dir, self.ignored, self.new_names))

    def official_file(self, path: str) -> str:
        """Full path of an official annotation file, which is needed because there is no split file."""
        full = os.path.join(self.dataset_dir, path)
        require(full, f"official annotations, needed because there is no {self.split_file}", type(self), self.root)
        return full

    def sample(self, cfg, train, val, test):
        """Train and val after few-shot sampling."""
        return fewshot(train, val, test, cfg.DATASET.NUM_SHOTS, cfg.SEED, self.split_fewshot_dir, self.image_dir)

    def more_validation(self, cfg: Any, shots: int = 0) -> list[Item]:
        """Validation images as protocols take them that use more than the run's own: the whole split, or `shots` a class."""
        train, val, test = self.load_split()
        if shots:
            val = validation_sample(train, val, test, self.train_x, cfg.DATASET.NUM_SHOTS, shots, cfg.SEED)
        _, val = self.chosen(cfg, train, val)
        self.require_images((val,))
        return val

    def require_images(self, parts):
        """Raise MissingImages if an image of `parts` (lists of Item) is not on disk; lists each folder only once."""
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
            remedy = "unpack the archive again"
            if all("\\" in path and os.path.isfile(path.replace("\\", "/")) for path in missing):
                remedy = f"{self.split_path} writes paths with backslashes, and the images are there with slashes: replace them"
            raise MissingImages(
                f"{type(self).__name__}: {len(missing)} of {total} images of the split are missing, first {missing[0]}; {remedy} "
                f"(`{home.command('check')} {type(self).__name__} --root {self.root}` lists them all)",
                missing,
            )


class MissingImages(UserError):
    """Images of the split are not on disk; `paths` has all of them."""

    def __init__(self, message, paths):
        super().__init__(message)
        self.paths = paths


def data_root(cfg: Any) -> str:
    """Full path of the data folder, DATASET.ROOT."""
    return os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
