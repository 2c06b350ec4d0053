"""EuroSAT: 10 kinds of land use in Sentinel-2 satellite images (27,000 images of 64 x 64 pixels)."""

from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset
from .sources import Source, drive_file


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    """`eurosat/2750/<Class>/*.jpg` with `split_zhou_EuroSAT.json`; class names as in CoOp."""

    dataset_dir = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"
    counts = (10, 13500, 5400, 8100)
    attributes = ("habitat",)
    printed_name = "EuroSAT"
    template = "a centered satellite photo of {}."
    new_names = {
        "AnnualCrop": "Annual Crop Land",
        "Forest": "Forest",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "River": "River",
        "SeaLake": "Sea or Lake",
    }
    sources = (
        # The first server (madm.dfki.de) is often down; torchvision points to this copy.
        Source(
            "2750",
            ("https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",),
            "md5:c8fa014336c82ac7804f0398fcb19387",
            anchor="2750",
        ),
        drive_file("split_zhou_EuroSAT.json", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),
    )
