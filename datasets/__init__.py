"""Image classification datasets; each module of this folder registers its own in DATASET_REGISTRY.

Every module and package of the folder is imported, so a dataset file that is put here needs no further step. `check`
and `download` are commands (`python -m datasets.check`) and are left to Python's `-m`.
"""

import importlib
import pkgutil

COMMANDS = ("check", "download")


def import_all():
    """Import every module of this folder, the commands excepted."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.name not in COMMANDS:
            importlib.import_module(f"{__name__}.{module.name}")


import_all()
