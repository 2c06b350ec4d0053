"""What a finished run says of itself, and its trainer without its data."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from basics import UserError, read_json

# Engine and methods are imported inside functions: a command line answers at once.


def read_run(folder: str | Path) -> dict[str, Any]:
    """The contents of results.json of a finished run.

    Raises:
        UserError: no such folder, not a run's folder, or a run that isn't finished.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no such run folder: {folder}")
    file = folder / "results.json"
    if not file.is_file():
        if (folder / "log.txt").exists() or (folder / "resume").exists() or list(folder.glob("*/model*.pth.tar*")):
            raise UserError(f"{folder} is an unfinished run (no results.json yet): let it come to its end first")
        inside = " or ".join(str(p.parent) for p in sorted(folder.glob("*/results.json"))[:3])
        hint = f"did you mean {inside}?" if inside else "give the folder that the training run had as --output-dir"
        raise UserError(f"{folder} is not a run folder (it has no results.json); {hint}")
    results = read_json(file)
    if not isinstance(results, dict) or not isinstance(results.get("config"), dict) or not results.get("classnames"):
        raise UserError(f"{file}: not the results of a run (it lacks config or classnames)")
    if not isinstance(results["classnames"], list) or not all(isinstance(n, str) for n in results["classnames"]):
        raise UserError(f"{file}: its classnames are not a list of names")
    if results.get("status") != "finished":
        raise UserError(f"{folder} is an unfinished run: let its training come to an end first")
    return results


def configuration(results: dict[str, Any], overrides: Sequence[Any] = ()) -> Any:
    """The frozen configuration of a run.

    Args:
        results: what ``read_run`` gave.
        overrides: [KEY, VALUE, ...] that win over the run's own settings.

    Raises:
        UserError: settings that this program doesn't know, or a dataset that it doesn't.
    """
    import datasets  # registers them: prompts may depend on what a dataset's class says
    import trainers
    from dassl.config import IMAGE_KEYS, check, get_cfg_default
    from dassl.data.datasets import DATASET_REGISTRY

    assert datasets
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.merge_from_other_cfg(results["config"])
    for name in IMAGE_KEYS:  # what an older run doesn't name was in force, too
        setattr(cfg.INPUT, name, cfg.INPUT[name])
    cfg.merge_from_list(list(overrides))
    cfg.VERBOSE = False
    check(cfg)
    if hasattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "own_templates") and not cfg.DATASET.TEMPLATE:
        made_from = results.get("made_from")  # which the folder of photos has said; it needn't be here
        template = made_from.get("hand template") if isinstance(made_from, dict) else None
        cfg.DATASET.TEMPLATE = template if isinstance(template, str) else ""
    cfg.TEST.CALIBRATE = False  # results.json has the temperature
    cfg.MODEL.INIT_WEIGHTS = ""  # where training started from; the checkpoint has where it ended
    cfg.freeze()
    return cfg


def without_images(trainer_class: type, classnames: Sequence[str], extras: dict[str, Any] | None = None) -> Any:
    """Subclass of a trainer that is built from class names alone: no dataset, no loaders.

    Args:
        trainer_class: a registered trainer.
        classnames: [C] names, in label order.
        extras: what the checkpoint carries that will be loaded (see ``PromptTrainer.built_for``).
    """
    names = list(classnames)
    lab2cname = dict(enumerate(names))
    counts = {"num_classes": len(names), "lab2cname": lab2cname}
    dataset = SimpleNamespace(classnames=names, all_classnames=names, train_x=[], val=[], test=[], **counts)

    class WithoutImages(trainer_class):
        built_for = extras or {}
        warns_of_names = False  # a prediction isn't there to show how data are read

        def build_data_loader(self):
            self.dm = SimpleNamespace(dataset=dataset, num_source_domains=0, **counts)
            self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
            self.num_classes, self.num_source_domains, self.lab2cname = len(names), 0, lab2cname

    return WithoutImages


def checkpoint_extras(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint of the run carries beside weights (``TrainerBase.checkpoint_extras``); {} without a checkpoint."""
    from dassl.utils import load_checkpoint

    for file in sorted(Path(folder).glob("*/model*.pth.tar*"))[-1:]:
        return load_checkpoint(str(file)).get("extras") or {}
    return {}
