"""Oxford-IIIT Pets: 37 breeds of cats and dogs (7,349 images)."""

import os

from dassl.data.datasets import DATASET_REGISTRY

from . import splits
from .annotations import fields, number, read_lines
from .common import SplitDataset
from .sources import Source, drive_file


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    """`oxford_pets/images/*.jpg` with `split_zhou_OxfordPets.json` or `annotations/{trainval,test}.txt`."""

    dataset_dir = "oxford_pets"
    split_file = "split_zhou_OxfordPets.json"
    counts = (37, 2944, 736, 3669)
    attributes = ("playfulness", "energy")
    printed_name = "OxfordPets"
    template = "a photo of a {}, a type of pet."
    templates = {"ProGrad": "a type of pet, a photo of a {}.", "TCP, after the context": "{}, a type of pet."}
    sources = (
        Source(
            "images",
            ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",),
            "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
            anchor="images",
        ),
        drive_file("split_zhou_OxfordPets.json", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),
        Source(
            "annotations",
            ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",),
            "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
            anchor="annotations",
            instead_of_split=True,
        ),
    )

    # Dataset files written for CoOp call these by the class's name.
    read_split = staticmethod(splits.read_split)
    save_split = staticmethod(splits.save_split)
    split_trainval = staticmethod(splits.split_trainval)
    subsample_classes = staticmethod(splits.subsample_classes)

    def make_split(self):
        """The official split; 20 % of its training images become val."""
        train, val = splits.split_trainval(self._read_list("trainval.txt"))
        return train, val, self._read_list("test.txt")

    def _read_list(self, name):
        """Lines "Abyssinian_100 1 1 1" (image, class from 1, species, breed) as Item."""
        data = []
        for place, line in read_lines(self.official_file(f"annotations/{name}")):
            image, label, *_ = fields(place, line, 2, "Abyssinian_100 1 1 1")
            data.append(
                splits.Item(
                    impath=os.path.join(self.image_dir, image + ".jpg"),
                    label=number(place, label) - 1,
                    classname=image.rpartition("_")[0].lower(),
                )
            )
        return data
