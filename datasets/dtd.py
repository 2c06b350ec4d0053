"""Describable Textures (DTD): 47 textures named by adjectives (5,640 images)."""

from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset
from .sources import Source, drive_file
from .splits import read_class_folders, split_by_ratio


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    """`dtd/images/<class>/*.jpg` with `split_zhou_DescribableTextures.json`."""

    dataset_dir = "dtd"
    split_file = "split_zhou_DescribableTextures.json"
    counts = (47, 2820, 1128, 1692)
    attributes = ("pattern", "color", "design")
    printed_name = "DTD"
    template = "{} texture."
    templates = {
        "KgCoOp": "a photo of a {}, a type of texture.",
        "ProGrad": "a texture of {}.",
        "TCP": "a photo of a {}, a type of texture.",
        "TCP, after the context": "{} texture.",
    }
    group_file = "dtd"
    hub_sha256 = "5ba4d3000e60f5541ba15a082033ca0696eee68125e9c28edff3dbe22f04313b"
    sources = (
        Source(
            "images",
            ("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
            "md5:fff73e5086ae6bdbea199a49dfb8a4c1",
            anchor="images",
        ),
        drive_file("split_zhou_DescribableTextures.json", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),
    )

    @staticmethod
    def read_and_split_data(image_dir, p_trn=0.5, p_val=0.2, ignored=(), new_cnames=None):
        """Split a folder of class folders; the name under which dataset files written for CoOp call it."""
        return split_by_ratio(read_class_folders(image_dir, ignored, new_cnames), p_trn, p_val)
