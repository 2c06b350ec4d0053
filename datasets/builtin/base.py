"""Built-in sets as datasets: `DATA/<name>/` is made on first use, and is then like any other dataset's folder.

    DATA/letters/images/letter_a/train_00.png ...
    DATA/letters/split_zhou_Letters.json
    DATA/letters/builtin.json                       which set this is, and the hash of its pixels

A set is written to a temporary folder, which is renamed when it is complete: a run that is killed leaves no half set,
and of runs that start together one makes it and the others wait. Where the file system has no locks, all make it, and one
keeps its copy, which holds the same images as theirs.
"""

import contextlib
import errno
import os
import shutil
import tempfile

from basics import UserError, read_json, write_json
from basics.locks import in_turn

from ..common import Item, SplitDataset
from ..listing import list_class_folders, list_images

MANIFEST = "builtin.json"


def write_images(name, parts, folder):
    """Write the images of a set below `folder`/images. Returns the entries of its split file."""
    from PIL import Image

    from .sets import CLASSES

    split = {}
    for part, (images, labels) in parts.items():
        split[part], count = [], {}
        for image, label in zip(images, labels.tolist()):
            classname = CLASSES[name][label]
            number = count[label] = count.get(label, -1) + 1
            path = f"{classname.replace(' ', '_')}/{part}_{number:03d}.png"
            full = os.path.join(folder, "images", path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            Image.fromarray(image).save(full)
            split[part].append([path, label, classname])
    return split


def write_set(name, folder, split_file=""):
    """Make the built-in set `name` in `folder`, all or nothing.

    Args:
        name: a key of `sets.CLASSES`.
        folder: the dataset's folder, which must be empty or not exist yet.
        split_file: name of the split file; "" for a test-only set.

    Raises:
        UserError: the folder holds something else, or can't be written.
    """
    from . import sets

    parts = sets.make(name)
    root = os.path.dirname(folder)
    temporary = None
    try:
        os.makedirs(root, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=f".{name}.", dir=root)
        split = write_images(name, parts, temporary)
        if split_file:
            write_json(split, os.path.join(temporary, split_file))
        write_json({"set": name, "pixels": sets.pixel_hash(parts)}, os.path.join(temporary, MANIFEST))
        os.chmod(temporary, 0o755)  # mkdtemp makes folders private
        os.rename(temporary, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise UserError(f"cannot write the built-in set {folder}: {error.strerror or error}") from error
        if not os.path.exists(os.path.join(folder, MANIFEST)):
            raise UserError(
                f"{folder} is in the way: it isn't the built-in set {name} that is to be made there "
                f"(it has no {MANIFEST}); move or remove it, or give another --root"
            ) from error
    finally:
        if temporary and os.path.isdir(temporary):
            shutil.rmtree(temporary)


def make_set(folder, split_file=""):
    """``write_set`` of the set that `folder` is named after, unless it is there."""
    name, manifest = os.path.basename(folder), os.path.join(folder, MANIFEST)
    if os.path.exists(manifest):
        return
    lock = os.path.join(os.path.dirname(folder), f".{name}.lock")
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
    with in_turn(lock, lambda: print(f"Another run is making the built-in set {name}; waiting for it")):
        try:
            if not os.path.exists(manifest):
                print(f"Making the built-in set {name} in {folder}\n", end="")  # one write: demo has other threads' lines
                write_set(name, folder, split_file)
        finally:
            with contextlib.suppress(OSError):  # whoever waits for it finds the set made
                os.unlink(lock)


def check_pixels(name, folder):
    """Print a note if the set in `folder` isn't pixel for pixel the one that published results were made with."""
    from .pixels import PIXELS

    manifest = read_json(os.path.join(folder, MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("set") != name:
        raise UserError(
            f"{os.path.join(folder, MANIFEST)} doesn't describe the built-in set {name}; remove {folder}, "
            f"and the next run makes it anew"
        )
    if manifest.get("pixels") != PIXELS[name]:
        print(
            f"Note: the images in {folder} differ from those that the published results were made with (another "
            f"version of this program, NumPy, Pillow or scikit-learn made them); remove the folder to make them anew"
        )


class BuiltinDataset(SplitDataset):
    """A built-in set with train, val and test; a subclass says only `dataset_dir`, `split_file` and `counts`."""

    builtin = True
    instructions = "It is built in: the first run makes it, nothing has to be downloaded."

    @classmethod
    def preflight(cls, root):
        """Nothing has to be there beforehand."""

    @classmethod
    def make(cls, root):
        """Make the set below a folder of datasets, if it isn't there. Raises UserError as ``write_set``."""
        make_set(os.path.join(root, cls.dataset_dir), cls.split_file)

    def prepare(self, cfg):
        """Make the set if it isn't there."""
        make_set(self.dataset_dir, self.split_file)
        check_pixels(os.path.basename(self.dataset_dir), self.dataset_dir)

    def make_split(self):
        """The split is written with the images."""
        raise UserError(f"{self.split_path} is missing; remove {self.dataset_dir}, and the next run makes it anew")

    def require_images(self, parts):
        """Raise UserError if an image is missing."""
        try:
            super().require_images(parts)
        except UserError as error:
            raise UserError(
                f"{type(self).__name__}: images of this built-in set are missing from {self.image_dir}; "
                f"remove {self.dataset_dir}, and the next run makes it anew"
            ) from error


class BuiltinTestSet(BuiltinDataset):
    """A built-in set for testing only, with the classes of another set.

    As with ImageNet's variants, the test images stand in for the training set, from which the engine takes class names.
    """

    split_file = ""

    def load_split(self):
        """The test images, twice; no val."""
        from .sets import CLASSES

        names = CLASSES[os.path.basename(self.dataset_dir)]
        folders = {name.replace(" ", "_"): label for label, name in enumerate(names)}
        found = list_class_folders(self.image_dir) if os.path.isdir(self.image_dir) else []
        if sorted(found) != sorted(folders):
            raise UserError(
                f"{type(self).__name__}: {self.image_dir} must hold the {len(names)} class folders of this "
                f"built-in set; remove {self.dataset_dir}, and the next run makes it anew"
            )
        test = [
            Item(impath=os.path.join(self.image_dir, folder, image), label=label, classname=names[label])
            for folder, label in folders.items()
            for image in list_images(os.path.join(self.image_dir, folder))
        ]
        return test, [], test

    def sample(self, cfg, train, val, test):
        """The test set is taken whole."""
        return train, val
