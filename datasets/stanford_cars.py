"""StanfordCars: 196 car models with their year (16,185 images)."""

import os

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_mat
from .common import SplitDataset
from .sources import Source, drive_file
from .splits import Item, split_trainval


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    """`stanford_cars/{cars_train,cars_test}/*.jpg` with `split_zhou_StanfordCars.json` or the devkit's `.mat` files."""

    dataset_dir = "stanford_cars"
    image_folder = "."
    split_file = "split_zhou_StanfordCars.json"
    required = (("cars_train", "training images"), ("cars_test", "test images"))
    counts = (196, 6509, 1635, 8041)
    attributes = ("luxury",)
    printed_name = "StanfordCars"
    templates = {"TCP, after the context": "{}, a type of car"}
    sources = (
        Source("cars_train"),
        Source("cars_test"),
        drive_file("split_zhou_StanfordCars.json", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
    )
    instructions = (
        "The first address (ai.stanford.edu) no longer answers. Log in to kaggle.com, download the set "
        '"jessicali9530/stanford-cars-dataset", and move its inner folders cars_train/cars_train and '
        "cars_test/cars_test to {folder}/cars_train and {folder}/cars_test. If the split file can't be had either, put "
        "the devkit's cars_meta.mat and cars_train_annos.mat in {folder}/devkit and cars_test_annos_withlabels.mat in "
        "{folder} (pytorch/vision issue 7545 links to copies)."
    )

    def make_split(self):
        """The official split; 20 % of its training images become val."""
        names = read_mat(self.official_file("devkit/cars_meta.mat"), "class_names")[0]
        names = [str(name[0]) for name in names]
        train, val = split_trainval(self._read_annotations("devkit/cars_train_annos.mat", "cars_train", names))
        return train, val, self._read_annotations("cars_test_annos_withlabels.mat", "cars_test", names)

    def _read_annotations(self, path, folder, names):
        """Item for every entry of a struct array with the fields `fname` and `class` (from 1)."""
        path = self.official_file(path)
        annotations = read_mat(path, "annotations")[0]
        if not {"fname", "class"} <= set(annotations.dtype.names or ()):
            raise UserError(
                f'{path}: the annotations lack the field "fname" or "class"; test labels are in '
                f"cars_test_annos_withlabels.mat, not in cars_test_annos.mat"
            )
        data = []
        for i, entry in enumerate(annotations):
            label = int(entry["class"][0, 0]) - 1
            if not 0 <= label < len(names):
                raise UserError(f"{path}: entry {i} has class {label + 1}, but cars_meta.mat has {len(names)} classes")
            data.append(
                Item(
                    impath=os.path.join(self.image_dir, folder, str(entry["fname"][0])),
                    label=label,
                    classname=year_first(names[label]),
                )
            )
        return data


def year_first(name):
    """ "Tesla Model S Sedan 2012" -> "2012 Tesla Model S Sedan"."""
    model, _, year = name.rpartition(" ")
    return f"{year} {model}".strip()
