"""One setting for one dataset and seed: what the shims in scripts/ call."""

import os
import sys
from pathlib import Path

from basics import UserError, home
from basics.scores import main_score
from reproduce import facts, recipes
from reproduce.processes import foreground
from reproduce.recorded import check_same_settings, check_training
from reproduce.runs import ALL, Run, number_for_recipes

ENVIRONMENT = f"""
Environment variables: TRAINER (MoCoOp; zeroshot: ZeroshotCLIP), CFG (the published recipe's file), SHOTS (16; all: every
training image), SOURCE (the dataset that a cross-dataset test was trained on), DATA (default: data in {home.OWN}), OUT (default:
output there).
A relative DATA or OUT is relative to the caller's folder.
"""
KINDS = {  # kind: (arguments of its script, what it does)
    "base2new_train": ("DATASET SEED", "train on the base classes and test on them"),
    "base2new_test": ("DATASET SEED", "test that model on the new classes"),
    "fewshot": ("DATASET SEED [SHOTS|all]", "train and test on all classes, with ResNet-50"),
    "zeroshot": ("DATASET [base|new|all]", "evaluate without training, on base, new and all classes by default"),
    "xd_train": ("DATASET SEED", "train on all classes of one dataset"),
    "xd_test": ("DATASET SEED", "test that model on another dataset"),
}


def add_arguments(commands):
    """Add `run KIND ...` to the sub-commands of the command line."""
    run = commands.add_parser("run", help="one run: what the scripts call", epilog=ENVIRONMENT)
    kinds = run.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, (arguments, about) in KINDS.items():
        parser = kinds.add_parser(
            kind, usage=f"{home.script(kind)} {arguments} [KEY VALUE ...]", help=about, description=about, epilog=ENVIRONMENT
        )
        parser.add_argument(
            "--fresh", action="store_true", help="start anew: the files of the run that is there are moved into replaced-1 in it"
        )
        parser.add_argument("dataset", metavar="DATASET", help="file name in configs/datasets without .yaml")
        if "SEED" in arguments:
            parser.add_argument("seed", type=int, metavar="SEED")
        parser.add_argument(
            "opts", nargs="*", default=[], metavar="KEY VALUE", help="after the optional argument: config keys to set"
        )


def data_folder():
    return Path(os.environ.get("DATA") or home.own_folder() / "data").absolute()


def output_folder():
    return Path(os.environ.get("OUT") or home.own_folder() / "output").absolute()


def runs_of(args):
    """The runs that a command line and the environment describe."""
    opts = list(args.opts)
    subsets = ("all",)
    shots = os.environ.get("SHOTS") or "16"
    if args.kind == "zeroshot":
        subsets = (opts.pop(0),) if opts and opts[0] in ("base", "new", "all") else ("base", "new", "all")
    if args.kind == "fewshot" and opts and (opts[0].isdigit() or opts[0] == "all"):
        shots = opts.pop(0)
    if shots != "all" and (not shots.isdigit() or int(shots) == 0):
        raise UserError(f"SHOTS={shots}: expected a positive whole number, or all")
    number = ALL if shots == "all" else int(shots)
    if len(opts) % 2:
        raise UserError(f"expected KEY VALUE pairs, got: {' '.join(opts)}")
    trainer = os.environ.get("TRAINER") or ("ZeroshotCLIP" if args.kind == "zeroshot" else "MoCoOp")
    source = ""
    if args.kind == "xd_test":
        family = facts.family(args.dataset) if facts.is_builtin(args.dataset) else "imagenet"
        source = os.environ.get("SOURCE") or family
    setting = {"base": "base2new", "xd_t": "crossdataset"}.get(args.kind[:4], args.kind)
    cfg = os.environ.get("CFG") or recipes.default_cfg(trainer, source or args.dataset, setting, number_for_recipes(number))
    seed = getattr(args, "seed", 1)
    return [Run(args.kind, args.dataset, trainer, cfg, seed, number, subset, source, tuple(opts)) for subset in subsets]


def execute(run, data, out, fresh=False, start=None):
    """Run it, unless it is finished and not `fresh`; returns the exit status.

    start: function of its command's words; by default in a process in the foreground.
    """
    directory = run.directory(out)
    facts.dataset_file(run.dataset)
    recipes.trainer_file(run.trainer, run.cfg)
    result = run.result(out)
    if result is not None and not fresh:
        check_same_settings(run, result, directory)
        name, value = main_score(result["metrics"])
        print(f"{run.label}: already finished, {name} {value:.2f}% ({directory})")
        return 0
    check_training(run, out)
    command = run.command(data, out, fresh=fresh)
    verb = "resuming the unfinished run in" if "--resume" in command else "running in"
    print(f"{run.label}: {verb} {directory}", flush=True)
    return (start or foreground)(command)


def main(args):
    data, out = data_folder(), output_folder()
    for run in runs_of(args):
        status = execute(run, data, out, args.fresh)
        if status != 0:
            print(f"{run.label}: train.py ended with exit status {status}", file=sys.stderr)
            return status
    return 0
