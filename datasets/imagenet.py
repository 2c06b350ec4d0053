"""ImageNet (ILSVRC 2012): 1,000 classes, and what its variants share.

The validation set is the test set (and the val set), as published. Few-shot samples that were published elsewhere
can't be drawn again, since they came from unsorted folder listings; to use one, put it in `split_fewshot/` under the
name that a run asks for (docs/datasets.md).
"""

import os
import shutil

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from . import imagenet_archives
from .annotations import read_lines
from .common import SplitDataset, data_root
from .fewshot import fewshot
from .layout import download_command
from .listing import list_class_folders, list_images
from .sources import classnames_file
from .splits import Item

CLASSNAMES = "classnames.txt"


@DATASET_REGISTRY.register()
class ImageNet(SplitDataset):
    """`imagenet/images/{train,val}/nXXXXXXXX/` with `classnames.txt`; labels follow the sorted folders of train."""

    dataset_dir = "imagenet"
    required = (
        ("images/train", "training images, a folder per class"),
        ("images/val", "validation images, a folder per class"),
        (CLASSNAMES, "class names"),
    )
    other_places = ("ILSVRC/Data/CLS-LOC/train", "train")  # as Kaggle's archive has it; without images/
    counts = (1000, 1281167, 50000, 50000)
    attributes = ("color", "shape")
    printed_name = "ImageNet"
    sources = (classnames_file(),)
    instructions = (
        "The images need a log-in at https://image-net.org/download-images. Put ILSVRC2012_img_train.tar (md5 "
        "1d675b47d978889d74fa0da5fadfb00e), ILSVRC2012_img_val.tar (md5 29b22e2961454d5413ddabcf34fc5622) and "
        "ILSVRC2012_devkit_t12.tar.gz in {folder}/images and run this command again: it unpacks them into class "
        "folders. If you have ImageNet elsewhere, link its train and val there instead."
    )

    @classmethod
    def preflight(cls, cfg):
        """Besides what must be there: validation images must be in class folders."""
        super().preflight(cfg)
        root = data_root(cfg)
        val = os.path.join(root, cls.dataset_dir, "images", "val")
        if is_flat(val):
            raise UserError(
                f"ImageNet: {val} holds the validation images in one flat folder, so their classes aren't known. They "
                f"must be in a folder per class (val/n01440764/ILSVRC2012_val_00000293.JPEG). Put "
                f"ILSVRC2012_devkit_t12.tar.gz in {os.path.dirname(val)} and run `{download_command(cls, root)}`, "
                f"which sorts them"
            )

    @classmethod
    def arrange(cls, folder):
        """Unpack the archives in `images/`; sort flat validation images."""
        imagenet_archives.arrange(os.path.join(folder, "images"))

    def load_split(self):
        """All images of the class folders: train; val; val again as the test set."""
        names = read_classnames(os.path.join(self.dataset_dir, CLASSNAMES))
        folders = list_class_folders(os.path.join(self.image_dir, "train"))
        train = read_folders(os.path.join(self.image_dir, "train"), folders, names)
        test = read_folders(os.path.join(self.image_dir, "val"), folders, names)
        return train, test, test

    def sample(self, cfg, train, val, test):
        """Only train is sampled: val is the test set."""
        train, _ = fewshot(train, None, test, cfg.DATASET.NUM_SHOTS, cfg.SEED, self.split_fewshot_dir, self.image_dir)
        return train, val

    def require_images(self, parts):
        """Check a few-shot file's images only: the others have just been listed."""
        super().require_images(parts[:1])

    @staticmethod
    def read_classnames(text_file):
        """The name under which dataset files written for CoOp call `read_classnames`."""
        return read_classnames(text_file)


class ImageNetVariant(SplitDataset):
    """A test set for models trained on ImageNet: a folder per class, no training images.

    As published, the test images also stand in for the training set, which an evaluation doesn't use but from which
    the engine takes the class names. Few-shot sampling doesn't apply.
    """

    variant_of = "imagenet"
    attributes = ImageNet.attributes

    def load_split(self):
        """The test images, twice; no val."""
        names = read_classnames(self.classnames_path(self.root))
        test = self.read_test(names)
        return test, [], test

    def read_test(self, names):
        """Test images as Item; labels follow the sorted class folders."""
        return read_folders(self.image_dir, list_class_folders(self.image_dir), names)

    def training_rows(self):
        """(names of ImageNet's classes, number among them of each class here), in the order of labels; None for other folders.

        Names don't tell which is which: some classes of ImageNet share theirs.
        """
        names = read_classnames(self.classnames_path(self.root))
        every, own = sorted(names), list_class_folders(self.image_dir)
        if not set(own) <= names.keys():
            return None  # numbers, as ImageNetV2's, which has all classes
        return [names[folder] for folder in every], [every.index(folder) for folder in own]

    def sample(self, cfg, train, val, test):
        """The test set is taken whole."""
        return train, val

    def require_images(self, parts):
        """Nothing to do: the images have just been listed."""

    @classmethod
    def arrange(cls, folder):
        """Take `classnames.txt` from ImageNet's folder if it is there."""
        path = os.path.join(folder, CLASSNAMES)
        shared = os.path.join(os.path.dirname(folder), ImageNet.dataset_dir, CLASSNAMES)
        if not os.path.exists(path) and os.path.exists(shared):
            os.makedirs(folder, exist_ok=True)
            shutil.copyfile(shared, path)

    @classmethod
    def classnames_path(cls, root):
        """`classnames.txt` in the dataset's own folder, else ImageNet's."""
        own = os.path.join(root, cls.dataset_dir, CLASSNAMES)
        shared = os.path.join(root, ImageNet.dataset_dir, CLASSNAMES)
        return own if os.path.exists(own) or not os.path.exists(shared) else shared

    @classmethod
    def preflight(cls, cfg):
        """Besides the images: `classnames.txt` here or in `imagenet/`."""
        super().preflight(cfg)
        root = data_root(cfg)
        path = cls.classnames_path(root)
        if not os.path.exists(path):
            raise UserError(
                f"{cls.__name__}: {path} (class names) doesn't exist, nor does ImageNet's; copy it there "
                f"from imagenet/, or run `{download_command(cls, root)}`"
            )


def read_classnames(text_file):
    """Class names by folder from lines "n01440764 tench", in file order.

    Returns:
        Dict {folder: class name}.
    """
    names = {}
    for place, line in read_lines(text_file):
        folder, _, name = line.partition(" ")
        if not name.strip():
            raise UserError(f'{place}: {line!r} is not of the form "n01440764 tench"')
        names[folder] = name.strip()
    return names


def read_folders(image_dir, folders, names):
    """Images of class folders, sorted; a class's label is its index in `folders`.

    Raises:
        UserError: a folder is missing, empty or without a name, or `image_dir` has a folder that isn't in `folders`.
    """
    if not folders:
        raise UserError(f"{image_dir} has no class folders such as n01440764; unpack the images there")
    extra = sorted(set(list_class_folders(image_dir)) - set(folders))
    if extra:
        raise UserError(
            f"{os.path.join(image_dir, extra[0])} is no class of the training set (train has no such "
            f"folder); add it to train, or take it out of here"
        )
    data = []
    for label, folder in enumerate(folders):
        path = os.path.join(image_dir, folder)
        if folder not in names:
            raise UserError(
                f"{path}: the class folder {folder} has no name in {CLASSNAMES}; add the line there, or remove the folder"
            )
        images = list_images(path) if os.path.isdir(path) else []
        if not images:
            raise UserError(f"{path}: class folder without images; unpack the archive again")
        data.extend(Item(impath=os.path.join(path, name), label=label, classname=names[folder]) for name in images)
    return data


def is_flat(folder):
    """True where images lie directly in `folder` and it has no class folders."""
    return bool(list_images(folder)) and not list_class_folders(folder)
