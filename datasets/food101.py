"""Food101: 101 dishes (101,000 images)."""

from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset
from .sources import Source, drive_file


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    """`food-101/images/<class>/*.jpg` with `split_zhou_Food101.json`."""

    dataset_dir = "food-101"
    split_file = "split_zhou_Food101.json"
    counts = (101, 50500, 20200, 30300)
    attributes = ("flavor", "preparation")
    printed_name = "Food101"
    template = "a photo of {}, a type of food."
    templates = {
        "ProGrad": "a type of food, a photo of {}.",
        "TCP": "a photo of a {}, a type of food.",
        "TCP, after the context": "{}, a type of food.",
    }
    sources = (
        Source(
            "images",
            ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
            "md5:85eeb15f3717b99a5da872d97d918f87",
            anchor="images",
        ),
        drive_file("split_zhou_Food101.json", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
    )
