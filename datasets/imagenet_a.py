"""ImageNet-A: photographs of 200 ImageNet classes that fool classifiers (7,500 images, test only)."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant
from .sources import Source, classnames_file


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """`imagenet-adversarial/imagenet-a/nXXXXXXXX/` with `classnames.txt`; labels follow the sorted folders."""

    dataset_dir = "imagenet-adversarial"
    image_folder = "imagenet-a"
    aliases = ("imagenet-a",)
    counts = (200, 7500, 0, 7500)
    sources = (
        Source("imagenet-a", ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",), anchor="imagenet-a"),
        classnames_file(),
    )
