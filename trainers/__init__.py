"""The methods, a module each. Every module in this folder is imported here: a new one is a new method."""

import importlib
import pkgutil

from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer

for _module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
    importlib.import_module(f"{__name__}.{_module.name}")


def extend_cfg(cfg):
    """Add every method's own keys (the ``extend_cfg(cfg)`` that its class defines) to a default configuration."""
    PromptTrainer.extend_cfg(cfg)
    for name in TRAINER_REGISTRY.registered_names():
        own = vars(TRAINER_REGISTRY.get(name)).get("extend_cfg")
        if own:
            own.__func__(cfg)


def readers():
    """{section of the configuration: the methods that read it}, for the reference of keys."""
    found = {}
    for name in TRAINER_REGISTRY.registered_names():
        section = getattr(TRAINER_REGISTRY.get(name), "section", None)
        if section:
            found.setdefault(f"TRAINER.{section}", []).append(name)
    return {section: ", ".join(sorted(names)) for section, names in found.items()}
