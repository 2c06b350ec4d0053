"""Caltech101: 100 classes of objects (the 101 without `Faces_easy`, and without the background class)."""

from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset
from .sources import Source, drive_file


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    """`caltech-101/101_ObjectCategories/<class>/*.jpg` with `split_zhou_Caltech101.json`."""

    dataset_dir = "caltech-101"
    image_folder = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    counts = (100, 4128, 1649, 2465)
    attributes = ("shape", "size")
    printed_name = "Caltech101"
    ignored = ("BACKGROUND_Google", "Faces_easy")
    new_names = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
    sources = (
        Source(
            "101_ObjectCategories",
            ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
            "md5:3138e1922a9193bfa496528edbbc45d0",
            anchor="101_ObjectCategories",
            inner="101_ObjectCategories.tar.gz",
        ),
        drive_file("split_zhou_Caltech101.json", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),
    )
