"""SUN397: 397 kinds of scenes (39,700 images in the split)."""

import os

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_lines
from .common import SplitDataset
from .sources import Source, drive_file
from .splits import Item, split_trainval


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    """`sun397/SUN397/<letter>/<class>[/<sub>]/*.jpg` with `split_zhou_SUN397.json` or the official lists."""

    dataset_dir = "sun397"
    image_folder = "SUN397"
    split_file = "split_zhou_SUN397.json"
    counts = (397, 15880, 3970, 19850)
    attributes = ("function",)
    printed_name = "SUN397"
    sources = (
        Source(
            "SUN397",
            ("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",),
            "md5:8ca2778205c41d23104230ba66911c7a",
            anchor="SUN397",
        ),
        drive_file("split_zhou_SUN397.json", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
    )
    instructions = (
        "The first address (vision.princeton.edu) often doesn't answer. Get SUN397.tar.gz (37 GB, md5 "
        "8ca2778205c41d23104230ba66911c7a) from a mirror, put it in {downloads}, and run this command again. If the "
        "split file can't be had, put ClassName.txt, Training_01.txt and Testing_01.txt of Partitions.zip in {folder}."
    )

    def make_split(self):
        """The first official partition; 20 % of its training images become val."""
        folders = [line.lstrip("/") for _, line in read_lines(self.official_file("ClassName.txt"))]
        labels = {folder: label for label, folder in enumerate(folders)}
        train, val = split_trainval(self._read_list("Training_01.txt", labels))
        return train, val, self._read_list("Testing_01.txt", labels)

    def _read_list(self, name, labels):
        """Lines "/a/abbey/sun_aaaulhwrhqgejnyt.jpg" as Item."""
        data = []
        for place, line in read_lines(self.official_file(name)):
            image = line.lstrip("/")
            folder = os.path.dirname(image)
            if folder not in labels:
                raise UserError(f"{place}: the folder {folder!r} is not in ClassName.txt")
            data.append(Item(impath=os.path.join(self.image_dir, image), label=labels[folder], classname=scene_name(folder)))
        return data


def scene_name(folder):
    """ "k/kitchen/indoor" -> "indoor kitchen"."""
    return " ".join(reversed(folder.split("/")[1:]))
