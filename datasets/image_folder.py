"""ImageFolder: your own dataset, from a folder of class folders, with a YAML file and no code.

    DATASET:
      NAME: ImageFolder
      FOLDER: my_photos        # below DATASET.ROOT; without it, DATASET.ROOT is the folder

Either `my_photos/<class>/*.jpg` (split 50/20/30 per class, kept in `my_photos/split.json`), or
`my_photos/train/<class>/` and `my_photos/test/<class>/`, with or without `val`. Files that are not used are counted. With
DATASET.NESTED images in sub-folders of a class folder are the class's, too.

Two text files beside the class folders are read where they are there: `classnames.txt` says what classes are called
(`own_names`), `templates.txt` has hand-written templates: its first one is the data set's, its groups are MoCoOp's.
"""

import os

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset, data_root
from .listing import in_words, left_out, list_class_folders, list_images, no_images
from .own_names import read_names
from .splits import PARTS, Item, read_class_folders, split_by_ratio

TEMPLATES = "templates.txt"
PART_NAMES = {  # folder names, without regard to case
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@DATASET_REGISTRY.register()
class ImageFolder(SplitDataset):
    """A folder of class folders; labels follow their sorted order, class names are the folders' names or those in classnames.txt.

    class_folders: {folder: class name} of the classes that are called otherwise.
    """

    image_folder = "."
    photos_upright = True

    def __init__(self, cfg):
        self.dataset_dir, self.nested = cfg.DATASET.FOLDER, cfg.DATASET.NESTED
        super().__init__(cfg)

    @classmethod
    def preflight(cls, cfg):
        """Raise UserError unless there is a folder of folders."""
        root = data_root(cfg)
        path = os.path.join(root, cfg.DATASET.FOLDER)
        if os.path.commonpath([root, os.path.abspath(path)]) != root:
            raise UserError(
                f"DATASET.FOLDER {cfg.DATASET.FOLDER} is outside the data folder {root}, and splits and samples are written into "
                "it: give a folder above it as DATASET.ROOT (--root)"
            )
        if not os.path.isdir(path) or not list_class_folders(path):
            raise UserError(
                f"ImageFolder: {path} (DATASET.FOLDER below DATASET.ROOT) must be a folder that holds a "
                f"folder of images per class, or train/ and test/ with such folders in them"
            )
        find_parts(path)
        inside = list_class_folders(path)
        within = os.path.join(path, inside[0])
        if len(inside) == 1 and not list_images(within) and list_class_folders(within) and not cfg.DATASET.NESTED:
            raise UserError(
                f"ImageFolder: {path} holds one folder only, {inside[0]}, with folders in it: set DATASET.FOLDER "
                f"{os.path.normpath(os.path.join(cfg.DATASET.FOLDER, inside[0]))}"
            )

    @classmethod
    def own_templates(cls, cfg):
        """(name of the folder, its templates.txt or None): where methods look for templates of one's own set."""
        folder = os.path.abspath(os.path.join(data_root(cfg), cfg.DATASET.FOLDER))
        path = os.path.join(folder, TEMPLATES)
        return os.path.basename(folder), path if os.path.isfile(path) else None

    def record(self):
        return {"class_folders": self.class_folders} if self.class_folders else {}

    def load_split(self):
        """The split of the folders, its classes called as classnames.txt says."""
        split = self._split_of_folders()
        names = read_names(self.dataset_dir, {item.classname for data in split for item in data})
        self.class_folders = {folder: name for folder, name in names.items() if name != folder}
        if not self.class_folders:
            return split
        called = lambda item: self.class_folders.get(item.classname, item.classname)  # noqa: E731
        return tuple([Item(item.impath, item.label, called(item), item.domain) for item in data] for data in split)

    def _split_of_folders(self):
        """The split of the folders where there are `train` and `test`, else that of the split file."""
        parts = find_parts(self.image_dir)
        if not parts:
            split = super().load_split()
            self._say_what_is_left_out([""], list_class_folders(self.image_dir), split)
            return split
        renamed = [f"{name}/ is read as {part}/" for part, name in parts.items() if name != part]
        if renamed:
            print(f"WARNING: {self.image_dir}: {', '.join(renamed)}")
        others = [name for name in list_class_folders(self.image_dir) if name not in parts.values()]
        if others:
            print(f"WARNING: {self.image_dir}: only {', '.join(parts.values())} are used, not {', '.join(others)}")
        classes = list_class_folders(os.path.join(self.image_dir, parts["train"]))
        split = tuple(self._read_part(parts.get(part), parts["train"], classes) for part in PARTS)
        class_folders = [os.path.join(part, name) for part in parts.values() for name in classes]
        self._say_what_is_left_out(["", *parts.values()], class_folders, split)
        untested = set(classes) - {item.classname for item in split[2]}
        if untested:
            print(f"WARNING: {self.image_dir}: {len(untested)} class(es) have no test images, first {min(untested)!r}")
        return split

    def make_split(self):
        """50/20/30 per class."""
        return split_by_ratio(read_class_folders(self.image_dir, nested=self.nested))

    def _read_part(self, part, train, classes):
        """Images of the part in the folder `part` as Item; [] where it is None."""
        data = []
        for name in list_class_folders(os.path.join(self.image_dir, part)) if part else ():
            path = os.path.join(self.image_dir, part, name)
            images = list_images(path, self.nested)
            if name not in classes:
                raise UserError(
                    f"{path} has {len(images)} image(s) of a class {name!r} that {os.path.join(self.image_dir, train)} lacks; "
                    f"put training images of it there, or give both folders one name"
                )
            if not images:
                raise UserError(no_images(path))
            data.extend(Item(os.path.join(path, image), classes.index(name), name) for image in images)
        return data

    def _say_what_is_left_out(self, above, class_folders, split):
        """Count the files that are not used: beside class folders, no suffix of an image, sub-folders, not in the split file."""
        beside = [os.path.join(self.image_dir, f, name) for f in above for name in list_images(os.path.join(self.image_dir, f))]
        if beside:
            first = os.path.normpath(beside[0])
            print(f"WARNING: {len(beside)} image(s) lie beside the class folders and are not used, first {first}")
        used, found, new = {item.impath for data in split for item in data}, {}, []
        for folder in class_folders:
            path = os.path.join(self.image_dir, folder)
            if not os.path.isdir(path):
                continue
            for kind, count in left_out(path, self.nested).items():
                found[kind] = found.get(kind, 0) + count
            new += [image for name in list_images(path, self.nested) if (image := os.path.join(path, name)) not in used]
        if found:
            hint = "; DATASET.NESTED True takes those in sub-folders, too" if "in sub-folders" in found else ""
            print(f"WARNING: {self.image_dir}: not used are {in_words(found)}{hint}")
        if new:
            print(
                f"WARNING: {len(new)} image(s) are not in {self.split_path}, first {new[0]}; move that file away to have all "
                "images split anew"
            )


def find_parts(folder):
    """{part: name of its folder} where a folder is divided into train, test and perhaps val; {} where it holds classes.

    A part has class folders in it. Where train or test is missing, a folder with images directly in it is no part but a
    class: so there may be a class called "train".

    Raises:
        UserError: there are some parts without train or test, or two folders for one part.
    """
    found = [(part, name) for name in list_class_folders(folder) if (part := _part_called(name))]
    found = [(part, name) for part, name in found if list_class_folders(os.path.join(folder, name))]
    if not {"train", "test"} <= {part for part, _ in found}:
        found = [(part, name) for part, name in found if not list_images(os.path.join(folder, name))]
    parts = {}
    for part, name in found:
        if part in parts:
            raise UserError(f"{folder} has two folders for {part}: {parts[part]} and {name}; put one of them elsewhere")
        parts[part] = name
    missing = [part for part in ("train", "test") if part not in parts]
    if parts and missing:
        raise UserError(
            f"ImageFolder: {folder} has {', '.join(f'{name}/' for name in parts.values())} but no {' and no '.join(missing)}/: "
            f"give it {' and '.join(f'{part}/<class>/' for part in missing)} with images, or put all images of a class into one "
            "folder <class>/, and they are split 50/20/30"
        )
    return parts


def _part_called(name):
    return next((part for part, names in PART_NAMES.items() if name.lower() in names), None)
