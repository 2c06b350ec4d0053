"""torchvision with what a run needs of it at first: transforms of images. The rest is imported when it is first asked for.

``import torchvision`` imports its models, data sets and operators, and with these PyTorch's compiler: more than PyTorch itself
takes. ``install_torchvision`` puts a package named ``torchvision`` into ``sys.modules`` whose ``__init__`` hasn't run. Modules in
``LIGHT`` are imported from it as they are. Whatever else is asked for, a name or another module, first runs that ``__init__``.
From then on the package is what it always is, and the modules that were imported before stay the same objects.
"""

import importlib
import importlib.util
import re
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from .errors import UserError

NAME = "torchvision"
LIGHT = ("transforms", "utils")
_WITHIN = ("transforms.transforms", "transforms.functional", "transforms.autoaugment", "transforms._functional_pil",
           "transforms._functional_tensor")  # fmt: skip
_OF_ITS_OWN = {f"{NAME}.{name}" for name in (*LIGHT, *_WITHIN)}
_lock = threading.RLock()


class _Package(ModuleType):
    """The package before its ``__init__`` has run."""

    def __getattr__(self, name):
        if name in LIGHT:
            return importlib.import_module(f"{NAME}.{name}")
        if name.startswith("__") and name != "__version__":  # what Python and its tools ask any module
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        _complete(self)
        return getattr(self, name)


class _Finder(MetaPathFinder):
    """Has the package completed before another module than those in ``LIGHT`` is imported."""

    def find_spec(self, fullname, path=None, target=None):
        package = sys.modules.get(NAME)
        if fullname.startswith(f"{NAME}.") and fullname not in _OF_ITS_OWN and type(package) is _Package:
            _complete(package)
            if fullname in sys.modules:  # the package has imported it: it isn't to be there twice
                module = sys.modules[fullname]
                module.__spec__ = ModuleSpec(fullname, _There(module))  # Python takes the spec of what is there
                return module.__spec__
        return None


class _There(Loader):
    """Loads a module that is there already: leaves it as it is."""

    def __init__(self, module):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec


_finder = _Finder()


def install_torchvision():
    """Have torchvision imported in this way, unless it is there already or isn't installed."""
    with _lock:
        if NAME in sys.modules:
            return
        spec = importlib.util.find_spec(NAME)
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            return  # the import says what is wrong
        package = _Package(NAME)
        package.__spec__, package.__loader__, package.__file__ = spec, spec.loader, spec.origin
        package.__package__, package.__path__ = NAME, spec.submodule_search_locations
        sys.modules[NAME] = package
        sys.meta_path.insert(0, _finder)


def _complete(package):
    """Run the package's ``__init__``."""
    with _lock:
        if type(package) is not _Package:
            return  # another thread did
        package.__class__ = ModuleType
        sys.meta_path.remove(_finder)
        try:
            package.__spec__.loader.exec_module(package)
        except BaseException:  # as Python has it: a package whose import fails isn't there
            sys.modules.pop(NAME, None)
            raise


def version_in(package):
    """``package.__version__``, read from its file ``version.py``: the package itself isn't imported."""
    spec = importlib.util.find_spec(package) if package not in sys.modules else sys.modules[package].__spec__
    for place in (spec.submodule_search_locations if spec else None) or ():
        found = re.search(r"^__version__ = ['\"](.+)['\"]", Path(place, "version.py").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    raise UserError(f"the Python package {package} doesn't say its version; `make venv` sets up .venv with all that is needed")
