"""ImageNetV2 (matched frequency): a second test set for ImageNet's 1,000 classes (10,000 images, test only)."""

import os

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant, read_folders
from .listing import list_class_folders
from .sources import Source, classnames_file


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    """`imagenetv2/imagenetv2-matched-frequency-format-val/<0..999>/`.

    A folder's number is its line in classnames.txt, from 0.
    """

    dataset_dir = "imagenetv2"
    image_folder = "imagenetv2-matched-frequency-format-val"
    counts = (1000, 10000, 0, 10000)
    sources = (
        Source(
            "imagenetv2-matched-frequency-format-val",
            (
                "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                "https://s3-us-west-2.amazonaws.com/imagenetv2public/imagenetv2-matched-frequency.tar.gz",
            ),
            anchor="imagenetv2-matched-frequency-format-val",
        ),
        classnames_file(),
    )

    def read_test(self, names):
        """Test images as Item; the folders are numbers, so that 10 comes after 9."""
        names = {str(label): name for label, name in enumerate(names.values())}
        folders = list_class_folders(self.image_dir)
        strange = [name for name in folders if name not in names]
        if strange:
            raise UserError(
                f"{os.path.join(self.image_dir, strange[0])}: class folders must be numbers from 0 to "
                f"{len(names) - 1}, the lines of classnames.txt"
            )
        folders.sort(key=int)
        gap = next((label for label, name in enumerate(folders) if int(name) != label), None)
        if gap is not None:
            raise UserError(f"{os.path.join(self.image_dir, str(gap))}: class folder is missing; unpack the archive again")
        return read_folders(self.image_dir, folders, names)
