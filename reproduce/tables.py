"""`python -m reproduce table1 ... fig5`: a table or figure, ours beside the paper's; `--run` makes what is missing."""

import os
import shlex
import sys
from pathlib import Path

from basics import UserError, home, write_text
from reproduce import facts, paper, scores
from reproduce.experiments import EXPERIMENTS, RECIPES, Selection, chosen_rows, rows_of
from reproduce.render import FORMATS, render
from reproduce.single import data_folder, output_folder

EPILOG = f"""
Environment variables: DATA (default: data in {home.OWN}), OUT (default: output there).
Datasets: names in configs/datasets or in the paper; `letters digits textures shapes` are built in and need no weights.
"""


def add_arguments(commands):
    """Add every table and figure to the sub-commands of the command line."""
    for experiment in EXPERIMENTS.values():
        parser = commands.add_parser(experiment.name, help=experiment.caption, description=experiment.caption, epilog=EPILOG)
        add_selection(parser, experiment.seeds)
        if experiment.source:
            parser.add_argument("--source", help="dataset to train on (default: imagenet; for built-in sets letters)")
        if experiment.name in paper.tables():
            parser.add_argument("--paper", action="store_true", help="the paper's numbers alone")
        parser.add_argument("--format", choices=FORMATS, default="text", help="default: %(default)s")
        parser.add_argument(
            "--list-runs", action="store_true", help="also list the runs behind the numbers (json and csv always name them)"
        )
        pictures = "; for a figure also .pdf, .png, .svg" if experiment.pictures else ""
        parser.add_argument("--out", metavar="FILE", type=Path, help="write it to this file" + pictures)
        add_grid(parser)


def add_selection(parser, seeds=(1, 2, 3)):
    """Options that choose what is shown and made."""
    parser.add_argument("--datasets", nargs="+", help="default: the paper's")
    parser.add_argument(
        "--methods", nargs="+", metavar="ROW", help="rows, by their names; any other method of configs/trainers becomes a row"
    )
    add_settings(parser, seeds)


def add_settings(parser, seeds=(1, 2, 3)):
    """Options that say with which settings runs were made or are to be made."""
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds), help=f"default: {' '.join(map(str, seeds))}")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        default="paper",
        help="MoCoOp as its paper says, or as its released code does (default: %(default)s)",
    )
    parser.add_argument(
        "--cfg",
        nargs="+",
        metavar="[METHOD=]FILE",
        default=[],
        help="another YAML file than the recipe's, without .yaml, of one method or of all (CoOp=vit_b16_ep50, rn50)",
    )
    parser.add_argument("--backbone", metavar="NAME", help="for all runs; the same as --set MODEL.BACKBONE.NAME NAME")
    parser.add_settings(
        "a setting for all runs; unless it is about the machine (MODEL.BACKBONE.PATH, ...) or the recipe's own, their "
        f"folders are named by it. Paths in it are relative to {home.OWN}"
    )


def add_grid(parser):
    """Options of --run."""
    parser.add_argument("--run", action="store_true", help="make what is missing, with Ray")
    parser.add_argument(
        "--address", help="of a Ray cluster that sees the same folders; auto: the running one (default: this machine alone)"
    )
    parser.add_argument(
        "--gpus-per-run", type=float, metavar="N", help="0.25: four runs share a GPU (default: 1 where there are GPUs, else 0)"
    )
    parser.add_argument("--cpus-per-run", type=float, metavar="N", default=1, help="default: %(default)s")
    parser.add_argument(
        "--fresh", action="store_true", help="make runs anew that lie there with other settings; their files are moved aside"
    )
    parser.add_argument("--retries", type=int, default=2, help="of a run that died (default: %(default)s)")
    parser.add_argument(
        "--no-cache-features",
        action="store_true",
        help="let every run encode its training images itself (the numbers are the same)",
    )


def selection_of(args, experiment):
    """Selection that a command line describes; UserError for unknown names."""
    datasets = tuple(dict.fromkeys(map(facts.dataset_stem, args.datasets or ())))
    source = getattr(args, "source", None)
    experiment, datasets = experiment.choose(datasets, facts.dataset_stem(source) if source else "")
    rows = chosen_rows(experiment, args.methods) if args.methods else rows_of(experiment, args.recipe)
    chosen = Selection(
        experiment, datasets, rows, tuple(dict.fromkeys(args.seeds)), args.recipe, settings_of(args), cfgs_of(args)
    )
    known = {row.trainer for row in rows}
    for method, _ in chosen.cfgs:
        if method and method not in known:
            raise UserError(f"--cfg: {method} is none of the methods in the table{facts.choices(method, sorted(known))}")
    if any(key.startswith("DATASET.HELD_OUT") for key in chosen.opts[::2]):
        raise UserError(
            f"--set DATASET.HELD_OUT: such runs choose settings ({home.command('reproduce')} tune); no table has them"
        )
    return chosen


def settings_of(args):
    """Flat KEY, VALUE pairs of a command line for all runs."""
    backbone = ("MODEL.BACKBONE.NAME", args.backbone) if args.backbone else ()
    return backbone + tuple(word for pair in args.pairs for word in pair)


def cfgs_of(args):
    """((method or "", stem of its YAML file), ...) of --cfg, those of one method first."""
    pairs = [word.split("=", 1) if "=" in word else ["", word] for word in args.cfg]
    return tuple(sorted(map(tuple, pairs), key=lambda pair: not pair[0]))


def command_for(selection):
    """Function of (row, runs) -> the shell command that makes them."""

    def command(row, runs):
        words = [*home.command("reproduce").split(), *selection.experiment.options(), "--methods", row.name]
        targets = [run.dataset for run in runs]
        words += ["--datasets", *dict.fromkeys(targets), "--seeds", *map(str, selection.seeds)]
        if selection.recipe != "paper":
            words += ["--recipe", selection.recipe]
        cfgs = [f"{method}={file}" if method else file for method, file in selection.cfgs if method in ("", row.trainer)]
        words += ["--cfg", *cfgs] if cfgs else []
        for key, value in zip(selection.opts[::2], selection.opts[1::2]):
            words += ["--set", key, value]
        return shlex.join([*words, "--run"])

    return command


def write(text, file):
    if file is None:
        sys.stdout.write(text)
        return
    write_text(text, file)
    print(f"written: {file}")


def make(args, selection, data, out):
    """Make what isn't finished; returns the exit status."""
    from reproduce import grid

    for gpus in (1, 0):  # times on either device will do
        jobs = selection.experiment.jobs(selection, gpus)
        grid.check_folders(jobs, out, args.fresh)
        if all(job.result(out) is not None for job in jobs):
            print(f"all {len(jobs)} runs are finished already")
            return 0
    with grid.cluster(args) as cluster:
        return 0 if grid.make(selection.experiment.jobs(selection, cluster.gpus), data, out, cluster) else 1


def main(args):
    experiment = EXPERIMENTS[args.command]
    if getattr(args, "paper", False):
        if args.run:
            raise UserError("--paper shows what is printed; leave out --run")
        write(render(scores.paper_document(experiment), args.format, paper_only=True), args.out)
        return 0
    selection = selection_of(args, experiment)
    data, out = data_folder(), output_folder()
    status = 0
    if args.run:
        status = make(args, selection, data, out)
    document = selection.document(out, command_for(selection))
    if experiment.pictures and (args.out is None or args.out.suffix[1:] in experiment.pictures):
        files = experiment.draw(selection, document, out, args.out)
        print("\n".join(f"written: {file}" for file in files))
        if args.out is not None:
            return status
    colour = args.format == "text" and args.out is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    write(render(document, args.format, colour=colour, runs=args.list_runs), args.out)
    return status
