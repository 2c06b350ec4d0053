"""EuroSAT: 10 kinds of land use in Sentinel-2 satellite images (27,000 images of 64 x 64 pixels)."""

from dassl.data.datasets import DATASET_REGISTRY

from .common import SplitDataset


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    """`eurosat/2750/<Class>/*.jpg` with `split_zhou_EuroSAT.json`; class names as in CoOp."""

    dataset_dir = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"
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
