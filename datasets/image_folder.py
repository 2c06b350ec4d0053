"""ImageFolder: your own dataset, from a folder of class folders, with a YAML file and no code.

    DATASET:
      NAME: ImageFolder
      FOLDER: my_photos        # below DATASET.ROOT; without it, DATASET.ROOT is the folder

Either `my_photos/<class>/*.jpg` (split 50/20/30 per class, kept in `my_photos/split.json`), or
`my_photos/train/<class>/` and `my_photos/test/<class>/`, with or without `val`.
"""

import os

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset, data_root
from .splits import PARTS, Item, list_class_folders, list_images, read_class_folders, split_by_ratio


@DATASET_REGISTRY.register()
class ImageFolder(SplitDataset):
    """A folder of class folders; labels follow their sorted order, class names are the folders' names."""

    image_folder = "."
    ignored = ("split_fewshot",)

    def __init__(self, cfg):
        self.dataset_dir = cfg.DATASET.FOLDER
        super().__init__(cfg)

    @classmethod
    def preflight(cls, cfg):
        """Raise UserError unless there is a folder of folders."""
        path = os.path.join(data_root(cfg), cfg.DATASET.FOLDER)
        if not os.path.isdir(path) or not list_class_folders(path, cls.ignored):
            raise UserError(
                f"ImageFolder: {path} (DATASET.FOLDER below DATASET.ROOT) must be a folder that holds a "
                f"folder of images per class, or train/ and test/ with such folders in them"
            )

    def load_split(self):
        """The split of the folders where there are `train` and `test`, else that of the split file."""
        folders = {part: os.path.join(self.image_dir, part) for part in PARTS}
        if any(not os.path.isdir(folders[part]) or not list_class_folders(folders[part]) for part in ("train", "test")):
            return super().load_split()
        classes = list_class_folders(folders["train"])
        return tuple(self._read_part(folders[part], classes) for part in PARTS)

    def make_split(self):
        """50/20/30 per class."""
        return split_by_ratio(read_class_folders(self.image_dir, self.ignored))

    def _read_part(self, folder, classes):
        """Images of one part as Item; [] where there is no such folder."""
        data = []
        for name in list_class_folders(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if name not in classes:
                raise UserError(f"{path}: there is no class {name!r} in {self.image_dir}/train; add it there or remove it here")
            images = list_images(path)
            if not images:
                raise UserError(f"no images in the class folder {path}; fill it or remove it")
            data.extend(Item(os.path.join(path, image), classes.index(name), name) for image in images)
        return data
