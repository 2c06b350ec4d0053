"""open_clip's module of the same name, with a stand-in for the one class that it takes from torchvision, which stays unused."""

import importlib.util
from types import ModuleType

from . import _OPEN_CLIP, stand_in


class FrozenBatchNorm2d:
    """Batch norms with fixed statistics: open_clip has them for fine-tuning, which isn't done here."""

    def __init__(self, *args, **kwargs):
        raise TypeError("batch norms are frozen by open_clip itself")


_misc = ModuleType("torchvision.ops.misc")
_misc.FrozenBatchNorm2d = FrozenBatchNorm2d
_spec = importlib.util.spec_from_file_location(__name__, f"{_OPEN_CLIP[0]}/utils.py")
_module = importlib.util.module_from_spec(_spec)
with stand_in(_misc.__name__, _misc):
    _spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("__")})
