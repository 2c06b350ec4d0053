"""ImageNet-Sketch: black and white sketches of ImageNet's 1,000 classes (50,889 images, test only)."""

from dassl.data.datasets import DATASET_REGISTRY

from .imagenet import ImageNetVariant
from .sources import Source, classnames_file


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """`imagenet-sketch/images/nXXXXXXXX/` with `classnames.txt`; labels follow the sorted folders."""

    dataset_dir = "imagenet-sketch"
    image_folder = "images"
    aliases = ("sketch",)
    counts = (1000, 50889, 0, 50889)
    sources = (
        Source("images", ("gdrive:1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",), anchor="sketch", archive_name="ImageNet-Sketch.zip"),
        classnames_file(),
    )
