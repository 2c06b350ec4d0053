"""Oxford Flowers 102: 102 species of flowers (8,189 images)."""

import os

from basics import UserError, read_json
from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_mat
from .common import SplitDataset
from .sources import Source, drive_file
from .splits import Item, split_by_ratio


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    """`oxford_flowers/jpg/image_XXXXX.jpg` with `split_zhou_OxfordFlowers.json` or `imagelabels.mat`.

    The official split is tiny in its training part; as in CoOp, a split that has to be made is 50/20/30 per class.
    """

    dataset_dir = "oxford_flowers"
    image_folder = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    aliases = ("flowers-102", "oxford_flowers102", "flowers")
    counts = (102, 4093, 1633, 2463)
    attributes = ("color", "habitat", "growth")
    printed_name = "Flowers102"
    template = "a photo of a {}, a type of flower."
    templates = {"ProGrad": "a type of flower, a photo of a {}.", "TCP, after the context": "{}, a type of flower."}
    sources = (
        Source(
            "jpg",
            ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",),
            "md5:52808999861908f626f3c1f4e79d11fa",
            anchor="jpg",
        ),
        drive_file("split_zhou_OxfordFlowers.json", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),
        Source(
            "imagelabels.mat",
            ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat",),
            "md5:e0620be6f572b9609742df49c70aed4d",
            instead_of_split=True,
        ),
        drive_file("cat_to_name.json", "1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0", instead_of_split=True),
    )

    def make_split(self):
        """50/20/30 per class from the labels in `imagelabels.mat` and the names in `cat_to_name.json`."""
        label_file = self.official_file("imagelabels.mat")
        name_file = self.official_file("cat_to_name.json")
        labels = read_mat(label_file, "labels")[0]
        names = read_json(name_file)
        classes = {}
        for i, label in enumerate(labels, 1):
            name = names.get(str(label)) if isinstance(names, dict) else None
            if not isinstance(name, str):
                raise UserError(f'{name_file} has no name for class "{label}" of {label_file}; download it again')
            impath = os.path.join(self.image_dir, f"image_{i:05d}.jpg")
            classes.setdefault(int(label) - 1, []).append(Item(impath=impath, label=int(label) - 1, classname=name))
        return split_by_ratio([(classes[label], f"{label_file}: class {label + 1}") for label in sorted(classes)])
