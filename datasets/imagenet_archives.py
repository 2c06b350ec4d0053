"""Unpacks ImageNet's archives, which only a log-in gives, and sorts flat validation images into class folders."""

import os
import shutil

from basics import UserError

from .annotations import read_lines, read_mat
from .fetch import wrong_checksum
from .listing import list_class_folders, list_images
from .unpack import extract

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
CHECKSUMS = {
    TRAIN: "md5:1d675b47d978889d74fa0da5fadfb00e",
    VAL: "md5:29b22e2961454d5413ddabcf34fc5622",
    DEVKIT: "md5:fa75699e90414af021442c21a62c3abf",
}


def arrange(images):
    """Make `images`/train and `images`/val from the archives in `images`, as far as those are there.

    Raises:
        UserError: an archive is damaged, or validation images don't fit the devkit.
    """
    if not os.path.isdir(os.path.join(images, "train")) and os.path.exists(os.path.join(images, TRAIN)):
        _unpack_train(images)
    val = os.path.join(images, "val")
    flat = os.path.isdir(val) and bool(list_images(val))
    if not os.path.exists(os.path.join(images, DEVKIT)):
        return
    if flat:
        _sort_into_classes(val, _val_folders(images))
    elif not os.path.isdir(val) and os.path.exists(os.path.join(images, VAL)):
        scratch = _extract_checked(images, VAL)
        _sort_into_classes(scratch, _val_folders(images))
        os.replace(scratch, val)


def _extract_checked(images, name):
    """Unpack an archive into a scratch folder after checking its md5; returns the scratch folder."""
    archive = os.path.join(images, name)
    print(f"ImageNet: checking and unpacking {archive}")
    found = wrong_checksum(archive, CHECKSUMS[name])
    if found:
        raise UserError(f"{archive}: the checksum is {found}, not {CHECKSUMS[name]}; download it again")
    scratch = os.path.join(images, f".unpack-{name}")
    shutil.rmtree(scratch, ignore_errors=True)
    extract(archive, scratch)
    return scratch


def _unpack_train(images):
    """The training archive holds one archive per class, n01440764.tar."""
    scratch = _extract_checked(images, TRAIN)
    for name in sorted(os.listdir(scratch)):
        inner = os.path.join(scratch, name)
        extract(inner, inner.removesuffix(".tar"))
        os.unlink(inner)
    os.replace(scratch, os.path.join(images, "train"))


def _val_folders(images):
    """Class folder (nXXXXXXXX) of every validation image, in their order, from the devkit."""
    scratch = _extract_checked(images, DEVKIT)
    try:
        data = os.path.join(scratch, *list_class_folders(scratch)[:1], "data")
        synsets = read_mat(os.path.join(data, "meta.mat"), "synsets")
        folders = {int(entry["ILSVRC2012_ID"].item()): str(entry["WNID"].item()) for entry in synsets[:, 0]}
        truth = read_lines(os.path.join(data, "ILSVRC2012_validation_ground_truth.txt"))
        return [folders[int(line)] for _, line in truth]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{os.path.join(images, DEVKIT)}: its class numbers don't fit together ({error}); download it again"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sort_into_classes(val, folders):
    """Move ILSVRC2012_val_00000001.JPEG and so on in `val` into their class folders."""
    for name in list_images(val):
        number = os.path.splitext(name)[0].rpartition("_")[2]
        if not number.isdecimal() or not 1 <= int(number) <= len(folders):
            raise UserError(
                f"{os.path.join(val, name)} is none of ImageNet's {len(folders)} validation images "
                f"(ILSVRC2012_val_00000001.JPEG, …); remove it and run this command again"
            )
        folder = os.path.join(val, folders[int(number) - 1])
        os.makedirs(folder, exist_ok=True)
        os.replace(os.path.join(val, name), os.path.join(folder, name))
