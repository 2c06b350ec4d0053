"""ImageNet-R: drawings, toys and other renditions of 200 ImageNet classes (30,000 images, test only)."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant
from .sources import Source, classnames_file


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """`imagenet-rendition/imagenet-r/nXXXXXXXX/` with `classnames.txt`; labels follow the sorted folders."""

    dataset_dir = "imagenet-rendition"
    image_folder = "imagenet-r"
    aliases = ("imagenet-r",)
    counts = (200, 30000, 0, 30000)
    sources = (
        Source("imagenet-r", ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",), anchor="imagenet-r"),
        classnames_file(),
    )
