"""Image classification datasets; each module of this folder registers its own in DATASET_REGISTRY.

Every module and package of the folder is imported, so a dataset file that is put here needs no further step. `check`
and `download` are commands (`python -m datasets.check`) and are left to Python's `-m`.
"""

from basics import own_files
from dassl.data.datasets import DATASET_REGISTRY

COMMANDS = ("check", "download")


def import_all():
    """Import every module of this folder, the commands excepted."""
    own_files.import_all(__name__, __path__, DATASET_REGISTRY, "DATASET_REGISTRY", leave=COMMANDS)


import_all()
