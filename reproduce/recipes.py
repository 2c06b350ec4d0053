"""Which configuration file each method uses in each setting, and what it sets beside it."""

import functools

import yaml

from basics import UserError, home
from reproduce.facts import choices, is_builtin, is_imagenet

ZEROSHOT_TRAINERS = ("ZeroshotCLIP", "ZeroshotCLIP2")

SETTINGS = ("base2new", "fewshot", "zeroshot", "crossdataset")
CONDITIONS = ("recipe", "setting", "datasets", "imagenet", "builtin", "shots")


@functools.cache
def rules_of(trainer):
    """The method's rules: ``configs/recipes/<method>.yaml``, or ``default.yaml`` there.

    A rule's conditions (``recipe``, ``setting``, ``datasets``, ``imagenet``, ``builtin``, ``shots``) must all hold; those that
    it leaves out hold always. ``file`` is the stem of the method's YAML file: the first rule that fits and has one decides.
    ``set`` holds the settings beside it: of all rules that fit. ``source`` says where that is written.
    """
    file = home.find(f"configs/recipes/{trainer}.yaml")
    file = file if file.is_file() else home.find("configs/recipes/default.yaml")
    rules = yaml.safe_load(file.read_text(encoding="utf-8"))
    for rule in rules:
        unknown = rule.keys() - {"file", "set", "source", *CONDITIONS}
        if unknown or "source" not in rule or not rule.keys() & {"file", "set"}:
            raise UserError(f"{file}: the rule {rule} {f'has the unknown key {min(unknown)}' if unknown else 'is not complete'}")
    return rules


def _fits(rule, recipe, dataset, setting, shots):
    """Whether a rule's conditions hold; on built-in sets those without ``builtin`` don't."""
    wanted = rule.get("shots", shots)
    from_on = isinstance(wanted, str) and int(wanted.removesuffix("+"))
    settings = rule.get("setting", setting)
    return (
        rule.get("recipe", recipe) == recipe
        and setting in (settings if isinstance(settings, list) else [settings])
        and dataset in rule.get("datasets", [dataset])
        and rule.get("imagenet", is_imagenet(dataset)) == is_imagenet(dataset)
        and rule.get("builtin", False) == is_builtin(dataset)
        and (shots >= from_on if from_on else wanted == shots or shots in wanted)
    )


def recipe_cfg(recipe, trainer, dataset, setting, shots):
    """Stem of the method's YAML file in the ``paper`` recipe, or in that of MoCoOp's ``released`` code.

    setting: one of SETTINGS. Methods with one recipe have it under both names.
    """
    for rule in rules_of(trainer):
        if "file" in rule and _fits(rule, recipe, dataset, setting, shots):
            return rule["file"]
    return "builtin"


def default_cfg(trainer, dataset, setting, shots):
    """Stem of the method's YAML file in the published recipe."""
    return recipe_cfg("paper", trainer, dataset, setting, shots)


def recipe_opts(trainer, dataset, setting, shots):
    """KEY VALUE pairs that the published recipe sets beside its file; the user's own come after and win."""
    fitting = [rule["set"] for rule in rules_of(trainer) if "set" in rule and _fits(rule, "paper", dataset, setting, shots)]
    return tuple(str(word) for pairs in reversed(fitting) for pair in pairs.items() for word in pair)


def method_names():
    """Names of all methods that have YAML files."""
    return [path.name for path in home.listed("configs/trainers", "*") if path.is_dir()]


def check_method(trainer, option="TRAINER="):
    """UserError naming the nearest method if there are no YAML files for this one. option: how the user said it."""
    methods = method_names()
    if trainer not in methods:
        raise UserError(f"{option}{trainer}: no such method{choices(trainer, methods)}")


def trainer_file(trainer, cfg):
    """Path of the method's YAML file; UserError naming the nearest one if there is none."""
    check_method(trainer)
    path = home.find(f"configs/trainers/{trainer}/{cfg}.yaml")
    if not path.is_file():
        names = [p.stem for p in home.listed(f"configs/trainers/{trainer}", "*.yaml")]
        if cfg == "builtin":
            raise UserError(f"{trainer} has no settings for the built-in benchmark ({path}){choices(cfg, names)}")
        raise UserError(f"CFG={cfg}: no file {path}{choices(cfg, names)}")
    return path
