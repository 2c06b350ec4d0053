"""Other people's repositories: trainers written for Dassl, run from a folder of their own below this one.

    git clone https://github.com/muzairkhattak/multimodal-prompt-learning foreign/maple
    python train.py --trainer MaPLe --config-file foreign/maple/configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml …

``foreign/maple_settings.py`` says which trainers the folder has, which keys and options its ``train.py`` adds, and what that
computes once all settings are merged (docs/foreign-trainers.md). The repository's own modules are imported as
``foreign.maple.…`` (see ``importing``), so that its ``trainers``, ``clip`` and ``utils`` meet neither ours nor another's.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

from basics import UserError, home

from . import importing

SUFFIX = "_settings"
HOOKS = ("add_arguments", "extend_cfg", "after_merge", "load_model")


@dataclass(frozen=True)
class Repository:
    """A repository in ``foreign/`` and its settings file.

    name: of the folder and of the settings file. trainer: the one that is asked for. settings: the module of the file.
    """

    name: str
    trainer: str
    settings: ModuleType

    @property
    def folder(self):
        return home.own_folder() / "foreign" / getattr(self.settings, "SUBFOLDER", self.name)

    def add_arguments(self, parser):
        """Options of the repository's own train.py."""
        self._call("add_arguments", parser)

    def extend_cfg(self, cfg, args):
        """Its keys. It may replace other methods' sections: only its own trainer runs in this process."""
        if not self.folder.is_dir():
            about = (self.settings.__doc__ or "").strip().splitlines()
            raise UserError(
                f"the trainer {self.trainer} needs the folder {self.folder}, which doesn't exist: {' '.join(about[:2])}"
            )
        importing.add(self.name, self.folder)
        self._call("extend_cfg", cfg, args)

    def after_merge(self, cfg, args):
        """What it computes once all settings are merged."""
        self._call("after_merge", cfg, args)

    def register(self):
        """Import the trainer's module. A class of the name of one of ours takes its place in this process."""
        importlib.import_module(f"{__name__}.{self.name}.{self.settings.TRAINERS[self.trainer]}")

    def before_evaluation(self, trainer):
        """Let the settings file load models in its own way: load_model(the trainer's own function, trainer, directory, epoch)."""
        own, load = getattr(self.settings, "load_model", None), trainer.load_model
        if own:
            trainer.load_model = lambda directory, epoch=None: own(load, trainer, directory, epoch)

    def _call(self, hook, *args):
        getattr(self.settings, hook, lambda *args: None)(*args)


def names():
    """Names of all settings files."""
    return sorted(file.stem.removesuffix(SUFFIX) for file in home.listed("foreign", f"*{SUFFIX}.py"))


def settings(name):
    """The settings file of a repository, as a module; UserError for one that can't be what it should."""
    module = importlib.import_module(f"{__name__}.{name}{SUFFIX}")
    trainers = getattr(module, "TRAINERS", None)
    if not isinstance(trainers, dict) or not all(isinstance(word, str) for pair in trainers.items() for word in pair):
        raise UserError(f"{module.__file__}: TRAINERS must be a dict, {{name of a trainer: its module in the folder}}")
    own = [
        word for word, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    unknown = [word for word in own if word not in HOOKS and not word.startswith("_")]
    if unknown:
        raise UserError(f"{module.__file__}: {unknown[0]} is never called; functions of a settings file: {', '.join(HOOKS)}")
    return module


def repository_of(trainer, ours):
    """The Repository that has a trainer: by its name, or by "folder/Name" where the name alone isn't enough.

    Args:
        trainer: name as the user writes it.
        ours: names of this project's own trainers, which a name without folder means first.

    Returns:
        Repository; None for a trainer of ours or of nobody.

    Raises:
        UserError: several repositories have it, or the named one hasn't.
    """
    folder, _, name = trainer.rpartition("/")
    if not folder:
        if not name or name in ours:
            return None
        found = [repository for repository in names() if name in settings(repository).TRAINERS]
        if len(found) > 1:
            ways = " or ".join(f"--trainer {repository}/{name}" for repository in found)
            raise UserError(f"several repositories have a trainer {name}: write {ways}")
        return Repository(found[0], name, settings(found[0])) if found else None
    if folder not in names():
        raise UserError(f"--trainer {trainer}: there is no foreign/{folder}{SUFFIX}.py; there are {', '.join(names()) or 'none'}")
    module = settings(folder)
    if name not in module.TRAINERS:
        raise UserError(f"--trainer {trainer}: foreign/{folder}{SUFFIX}.py has the trainers {', '.join(module.TRAINERS)}")
    return Repository(folder, name, module)
