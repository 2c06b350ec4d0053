"""The methods, a module each. Every module in this folder is imported here: a new one is a new method."""

import sys

from basics import own_files
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer, preprocessing

__all__ = ["PromptTrainer", "extend_cfg", "preprocessing", "readers"]

own_files.import_all(__name__, __path__, TRAINER_REGISTRY, "TRAINER_REGISTRY")


def extend_cfg(cfg, trainer=""):
    """Add every method's own keys (the ``extend_cfg(cfg)`` that its class defines) to a default configuration.

    A class for Dassl, which isn't built on PromptTrainer, may set sections that other methods have, too. Of those only new
    sections are taken, unless it is ``trainer``, the one that the configuration is for: then what it sets is in force.
    """
    PromptTrainer.extend_cfg(cfg)
    classes = [TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()]
    own = [cls for cls in classes if issubclass(cls, PromptTrainer)]
    others = sorted((cls for cls in classes if cls not in own), key=lambda cls: cls.__name__ == trainer)
    for cls in (*own, *others):
        try:
            _add_keys(cls, cfg, in_place=cls in own or cls.__name__ == trainer)
        except Exception as error:
            if cls.__name__ == trainer or cls.__name__ not in TRAINER_REGISTRY:
                raise
            TRAINER_REGISTRY.remove(cls.__name__)
            file = sys.modules[cls.__module__].__file__
            own_files.note(TRAINER_REGISTRY, f"{cls.__name__} of {file}", own_files.why(error))


def _add_keys(cls, cfg, in_place):
    """Call a class's own ``extend_cfg``. not in_place: take only the sections that are new."""
    function = vars(cls).get("extend_cfg")
    if function and in_place:
        function.__func__(cfg)
    elif function:
        changed = cfg.clone()
        function.__func__(changed)
        for node, new in ((cfg, changed), (cfg.TRAINER, changed.TRAINER)):
            node.update({key: new[key] for key in new.keys() - node.keys()})


def readers():
    """{section of the configuration: the methods that read it}, for the reference of keys."""
    found = {}
    for name in TRAINER_REGISTRY.registered_names():
        section = getattr(TRAINER_REGISTRY.get(name), "section", None)
        if section:
            found.setdefault(f"TRAINER.{section}", []).append(name)
    return {section: ", ".join(sorted(names)) for section, names in found.items()}
