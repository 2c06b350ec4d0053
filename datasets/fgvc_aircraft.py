"""FGVC-Aircraft: 100 aircraft variants (10,000 images), with an official split."""

import os

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .annotations import fields, read_lines
from .common import SplitDataset
from .sources import Source
from .splits import Item

PARTS = ("train", "val", "test")


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    """`fgvc_aircraft/images/*.jpg` with `variants.txt` and `images_variant_{train,val,test}.txt`.

    The folder is the archive's `data/`. Labels follow the order of `variants.txt`.
    """

    dataset_dir = "fgvc_aircraft"
    aliases = ("fgvc-aircraft-2013b",)
    required = (
        ("variants.txt", "class names"),
        *((f"images_variant_{part}.txt", f"the official {part} split") for part in PARTS),
    )
    counts = (100, 3334, 3333, 3333)
    attributes = ("design", "range")
    printed_name = "FGVCaircraft"
    template = "a photo of a {}, a type of aircraft."
    templates = {
        "ProGrad": "a type of aircraft, a photo of a {}.",
        "TCP": "a photo of an aircraft {}.",
        "TCP, after the context": "{}, a type of aircraft.",
    }
    sources = (
        Source(
            "images",
            ("https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
            anchor="images",
        ),
    )

    def load_split(self):
        """The official split; there is no JSON file for this dataset."""
        variants = [line for _, line in read_lines(os.path.join(self.dataset_dir, "variants.txt"))]
        labels = {name: label for label, name in enumerate(variants)}
        return tuple(self._read_list(part, labels) for part in PARTS)

    def _read_list(self, part, labels):
        """Lines "1025794 707-320" (image, variant, which may hold spaces) as Item."""
        data = []
        for place, line in read_lines(os.path.join(self.dataset_dir, f"images_variant_{part}.txt")):
            image = fields(place, line, 2, "1025794 707-320")[0]
            variant = line[len(image) :].strip()
            if variant not in labels:
                raise UserError(f"{place}: {variant!r} is not in variants.txt; take both files from the same archive")
            data.append(Item(impath=os.path.join(self.image_dir, image + ".jpg"), label=labels[variant], classname=variant))
        return data
