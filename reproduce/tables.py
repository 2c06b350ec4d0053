"""`python -m reproduce table1 ... fig5`: a table or figure, ours beside the paper's; `--run` makes what is missing."""

import dataclasses
import os
import shlex
import sys
from pathlib import Path

from basics import UserError, write_text
from reproduce import facts, figures, paper, scores
from reproduce.experiments import EXPERIMENTS, RECIPES, Selection, chosen_rows, rows_of
from reproduce.render import FORMATS, render
from reproduce.routing_job import Routing
from reproduce.single import data_folder, output_folder
from reproduce.timing import Timing

EPILOG = """
Environment variables: DATA (<project>/data), OUT (<project>/output).
Datasets: names in configs/datasets or in the paper; `letters digits textures shapes` are built in and need no weights.
"""


def add_arguments(commands):
    """Add every table and figure to the sub-commands of the command line."""
    for experiment in EXPERIMENTS.values():
        parser = commands.add_parser(experiment.name, help=experiment.caption, description=experiment.caption, epilog=EPILOG)
        add_selection(parser)
        if experiment.setting == "crossdataset":
            parser.add_argument("--source", help="dataset to train on (default: imagenet; for built-in sets letters)")
        if experiment.name in paper.tables():
            parser.add_argument("--paper", action="store_true", help="the paper's numbers alone")
        parser.add_argument("--format", choices=FORMATS, default="text", help="default: %(default)s")
        pictures = "; for a figure also .pdf, .png, .svg" if experiment.name in figures.DRAWN else ""
        parser.add_argument("--out", metavar="FILE", type=Path, help="write it to this file" + pictures)
        add_grid(parser)


def add_selection(parser):
    """Options that choose what is shown and made."""
    parser.add_argument("--datasets", nargs="+", help="default: the paper's")
    parser.add_argument(
        "--methods", nargs="+", metavar="ROW", help="rows, by their names; any other method of configs/trainers becomes a row"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        default="paper",
        help="MoCoOp as its paper says, or as its released code does (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        dest="pairs",
        help="a setting for all runs; unless it is about the machine (MODEL.BACKBONE.PATH, ...), their "
        "folders are named by it. Paths in it are relative to the project",
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
    parser.add_argument("--retries", type=int, default=2, help="of a run that died (default: %(default)s)")
    parser.add_argument(
        "--no-cache-features",
        action="store_true",
        help="let every run encode its training images itself (the numbers are the same)",
    )


def source_of(args, experiment, datasets):
    """Where a transfer experiment trains: --source, ImageNet, or the built-in set whose kind the targets are."""
    if experiment.setting != "crossdataset":
        return experiment.source
    if args.source:
        return facts.dataset_stem(args.source)
    builtin = [d for d in datasets if facts.is_builtin(d)]
    if not builtin:
        return experiment.source
    return facts.family(builtin[0]) if experiment.name == "generalisation" else "letters"


def selection_of(args, experiment):
    """Selection that a command line describes; UserError for unknown names."""
    datasets = tuple(dict.fromkeys(map(facts.dataset_stem, args.datasets))) if args.datasets else experiment.datasets
    source = source_of(args, experiment, datasets)
    if experiment.setting == "crossdataset":
        datasets = (source, *(d for d in datasets if d != source))
    experiment = dataclasses.replace(experiment, source=source)
    rows = chosen_rows(experiment, args.methods) if args.methods else rows_of(experiment, args.recipe)
    opts = tuple(word for pair in args.pairs for word in pair)
    return Selection(experiment, datasets, rows, tuple(dict.fromkeys(args.seeds)), args.recipe, opts)


def command_for(pairs, selection):
    """Function of (row, runs) -> the shell command that makes them. pairs: those of --set."""

    def command(row, runs):
        words = ["python", "-m", "reproduce", selection.experiment.name, "--methods", row.name]
        if selection.experiment.setting == "crossdataset":
            words += ["--source", selection.experiment.source]
        targets = [run.dataset for run in runs]
        words += ["--datasets", *dict.fromkeys(targets), "--seeds", *map(str, selection.seeds)]
        if selection.recipe != "paper":
            words += ["--recipe", selection.recipe]
        for key, value in pairs:
            words += ["--set", key, value]
        return shlex.join([*words, "--run"])

    return command


def extra_jobs(selection, out, gpus):
    """What a table needs beside runs of train.py: times (Table 6), routing of images (Figure 5)."""
    if selection.experiment.name == "table6":
        return [Timing(dataset, "cuda" if gpus else "cpu") for dataset in selection.datasets]
    if selection.experiment.name == "fig5":
        return [
            Routing(selection.run("base2new_train", row, dataset, selection.seeds[0]))
            for row in selection.rows
            for dataset in selection.datasets
        ]
    return []


def jobs_of(selection, out, gpus):
    """All jobs, trainings before what needs them."""
    if selection.experiment.name == "fig5":
        routings = extra_jobs(selection, out, gpus)
        return [job for routing in routings for job in (routing.training, routing)]
    return list(selection.runs()) + extra_jobs(selection, out, gpus)


def write(text, file):
    if file is None:
        sys.stdout.write(text)
        return
    write_text(text, file)
    print(f"written: {file}")


def make(args, selection, data, out):
    """Make what isn't finished; returns the exit status."""
    for gpus in (1, 0):  # times on either device will do
        jobs = jobs_of(selection, out, gpus)
        if all(job.result(out) is not None for job in jobs):
            print(f"all {len(jobs)} runs are finished already")
            return 0
    from reproduce import grid

    with grid.cluster(args) as cluster:
        return 0 if grid.make(jobs_of(selection, out, cluster.gpus), data, out, cluster) else 1


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
    document = scores.document(selection, out, command_for(args.pairs, selection))
    if experiment.name in figures.DRAWN and (args.out is None or args.out.suffix[1:] in figures.PICTURES):
        files = figures.draw(selection, document, out, args.out)
        print("\n".join(f"written: {file}" for file in files))
        if args.out is not None:
            return status
    colour = args.format == "text" and args.out is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    write(render(document, args.format, colour=colour), args.out)
    return status
