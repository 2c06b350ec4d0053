"""What starting a run costs: as a process of its own, and as runs of a grid start (``reproduce.warm``).

    python -m benchmarks.starts
    python -m benchmarks.starts --weights ViT-B-16.pt

The run builds everything and stops (``train.py --no-train``), on the built-in digits. Beside it, zero-shot CLIP's evaluation
of the new classes, which reads kept image features and so is little more than a start, and ``import torch``. The ways take
turns.
"""

import os
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from tabulate import tabulate

from basics import UserError, home, program, write_json
from basics.program import Parser
from reproduce.processes import Background, python
from reproduce.warm import Warm

TICKS = os.sysconf("SC_CLK_TCK")  # a second


def command(root, weights, method, recipe, *options):
    """Words that start a run of a method; weights: a file of a ViT-B/16, or "" for the built-in model."""
    words = ["--root", str(root), "--seed", "1", "--trainer", method]
    words += ["--dataset-config-file", str(home.find("configs/datasets/digits.yaml"))]
    words += ["--config-file", str(home.find(f"configs/trainers/{method}/{recipe if weights else 'builtin'}.yaml"))]
    pairs = ["MODEL.BACKBONE.PATH", str(Path(weights).absolute())] if weights else []
    return [*python("train"), *words, *options, "DATALOADER.NUM_WORKERS", "0", *pairs]


def start(root, weights):
    """Words of the run that stops before training."""
    return [*command(root, weights, "CoOp", "vit_b16_ctxv1", "--no-train"), "DATASET.NUM_SHOTS", "1"]


def evaluation(root, weights, folder):
    """Words of the evaluation, into a new folder below ``folder``: a finished run isn't repeated."""
    where = "--output-dir", tempfile.mkdtemp(dir=folder)
    return [*command(root, weights, "ZeroshotCLIP", "vit_b16", *where), "DATASET.SUBSAMPLE_CLASSES", "new"]


def of_children():
    """CPU seconds of this process' children that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def of_server(starter):
    """CPU seconds of a Warm's process and of its forks that have ended."""
    words = Path(f"/proc/{starter.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS


def measure(starter, words, cpu):
    """(CPU seconds, seconds) of one run."""
    before, start = cpu(), time.perf_counter()
    status, text = starter.run(words)
    seconds = time.perf_counter() - start
    if status:
        sys.stderr.write(text[-3000:])
        raise UserError(f"train.py ended with exit status {status}, see above")
    return cpu() - before, seconds


def medians(name, found):
    """Rows of a table from {way: [(CPU seconds, seconds) of each call]}."""
    return [
        {name: way, "CPU seconds": median(cpu for cpu, _ in calls), "seconds": median(seconds for _, seconds in calls)}
        for way, calls in found.items()
    ]


def main(argv=None):
    """Run one command line; prints the table and returns its rows."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="", help="file of a ViT-B/16's weights (default: the built-in model)")
    parser.add_argument("--calls", type=int, default=5, help="of each way (default: %(default)s)")
    parser.add_argument("--root", default=str(home.PROJECT / "data"), help="folder of the datasets (default: data)")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    if sys.platform != "linux":
        raise UserError("runs are forks on Linux only")
    root, environment = Path(args.root).absolute(), {**os.environ, "OMP_NUM_THREADS": "1"}
    words, imports = start(root, args.weights), [sys.executable, "-c", "import torch"]
    own, fork = "evaluation, process of its own", "evaluation, fork with weights"
    found = {"process of its own": [], "fork": [], "fork with weights": []}
    beside = {"import torch": [], own: [], fork: []}
    with tempfile.TemporaryDirectory() as folder:
        fresh, kept = Background(environment, folder), Warm(environment, folder)
        measure(fresh, words, of_children)  # makes the data set, and what is kept in ~/.cache
        measure(fresh, evaluation(root, args.weights, folder), of_children)  # encodes the images
        for _ in range(3):  # the third finds the weights there
            kept.run(words)
        for _ in range(args.calls):
            modules = Warm(environment, folder)
            modules.run(words)  # imports them
            ways = (fresh, of_children), (modules, partial(of_server, modules)), (kept, partial(of_server, kept))
            for calls, (starter, cpu) in zip(found.values(), ways, strict=True):
                calls.append(measure(starter, words, cpu))
            modules.close()
            beside["import torch"].append(measure(fresh, imports, of_children))
            for name, (starter, cpu) in {own: (fresh, of_children), fork: (kept, partial(of_server, kept))}.items():
                beside[name].append(measure(starter, evaluation(root, args.weights, folder), cpu))
        kept.close()
    rows = medians("start", found)
    for row in rows:
        row["times less CPU"] = rows[0]["CPU seconds"] / row["CPU seconds"]
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    others = medians("what", beside)
    for row in others:
        row["beside import torch"] = row["CPU seconds"] / others[0]["CPU seconds"]
    print("\n" + tabulate(others, headers="keys", floatfmt=".2f"))
    rows += others
    if args.json:
        write_json(rows, args.json)
    return rows


if __name__ == "__main__":
    sys.exit(program.as_process(main))
