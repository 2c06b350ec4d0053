"""A table's whole grid of runs, as `python -m reproduce TABLE --run` makes it, against the same with all that is fast off.

    python -m benchmarks.grid --table table2 --datasets letters --seeds 1 --json grid.json

Runs have one thread and take turns: one of ours, then the same plainly; start-up is included.

- ours: this project's text tower; runs start as those of a table do (``reproduce.warm``: the first one pays for the imports);
  image features of test sets and of training views are kept for the runs that follow (the first run of a set pays for them: the
  cache is empty at the start);
- plain: every run a process of its own, every prompt through all 77 positions, learned prompts again for every test batch, images
  decoded and encoded by every run, by open_clip's own encoder. Trainers, loops and data are the same code.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from basics import UserError, home, program, write_json
from basics.program import Parser
from reproduce import warm
from reproduce.experiments import EXPERIMENTS, Selection, chosen_rows
from reproduce.facts import dataset_stem
from reproduce.processes import Background

PLAIN_SETTINGS = ("TRAINER.FEATURE_CACHE", "", "DATALOADER.DECODED_MB", "0")


def train_plainly(argv):
    """train.py with the published text computation, repeated for every test batch; returns its exit status."""
    import torch

    import train
    from benchmarks.measure import as_open_clip_builds_them
    from learning import PromptTrainer
    from prompting import CLIP, unit
    from prompting.insertions import NOTHING
    from prompting.reference import encode_reference

    def encode_text(self, plan, learned=None, checkpointing=False, raw=False, insertions=NOTHING):
        with self.autocast():
            features = encode_reference(self.text, plan, learned, insertions)
        return features if raw else unit(features)

    @torch.no_grad()
    def model_inference(self, images):
        return self.logits(self.encode_image(images), self.prepare())

    CLIP.encode_text, PromptTrainer.model_inference = encode_text, model_inference
    with as_open_clip_builds_them():
        return train.main(argv)


def run(job, way, starter, root, out, cache):
    """Make one run in one of the two ways; returns (seconds, accuracy)."""
    command = job.command(root, out / way, cache_features=way == "ours")
    if way == "ours":
        command += ["TRAINER.FEATURE_CACHE", str(cache)]
    else:
        script = command.index(str(home.PROJECT / "train.py"))
        command = [*command[:script], "-m", "benchmarks.grid", "--plainly", *command[script + 1 :], *PLAIN_SETTINGS]
    start = time.perf_counter()
    status, text = starter.run(command)
    seconds = time.perf_counter() - start
    result = job.result(out / way)
    if status or result is None:
        sys.stderr.write(text[-3000:])
        raise UserError(f"{job.label}, {way}: exit status {status}, see above")
    return seconds, result["metrics"]["accuracy"]


def main(argv=None):
    """Run one command line; prints the table and returns its rows."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", default="table2", choices=list(EXPERIMENTS), help="default: table2")
    parser.add_argument("--datasets", nargs="+", default=["letters"], help="default: letters")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="default: 1")
    parser.add_argument("--methods", nargs="+", help="default: all rows of the table")
    parser.add_settings("a setting for all runs")
    parser.add_argument("--root", default=str(home.PROJECT / "data"), help="folder of the datasets (default: data)")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    experiment = EXPERIMENTS[args.table]
    rows = chosen_rows(experiment, args.methods) if args.methods else experiment.rows
    opts = tuple(word for pair in args.pairs for word in pair)
    jobs = Selection(experiment, tuple(map(dataset_stem, args.datasets)), rows, tuple(args.seeds), opts=opts).runs()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    starters = {"ours": warm.starter(1, home.PROJECT), "plain": Background(environment, home.PROJECT)}
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs:
            measured = {
                way: run(job, way, starter, args.root, Path(folder), Path(folder) / "cache") for way, starter in starters.items()
            }
            (ours, accuracy), (plain, plain_accuracy) = measured["ours"], measured["plain"]
            table.append({"run": job.label, "ours": ours, "plain": plain, "ratio": plain / ours, "accuracy": accuracy,
                          "plain_accuracy": plain_accuracy})  # fmt: skip
            print(f"{job.label}: {plain:.1f} s plainly, {ours:.1f} s", flush=True)
    ours, plain = (sum(row[way] for row in table) for way in ("ours", "plain"))
    table.append({"run": "all", "ours": ours, "plain": plain, "ratio": plain / ours})
    print(tabulate(table, headers="keys", floatfmt=".2f"))
    if args.json:
        write_json(table, args.json)
    return table


if __name__ == "__main__":
    sys.exit(program.as_process((lambda: train_plainly(sys.argv[2:])) if sys.argv[1:2] == ["--plainly"] else main))
