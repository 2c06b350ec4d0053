"""What starting a run costs: as a process of its own, and as runs of a grid start (``reproduce.warm``).

    python -m benchmarks.starts
    python -m benchmarks.starts --weights ViT-B-16.pt

The run builds everything and stops (``train.py --no-train``), on the built-in digits. The ways take turns.
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


def command(root, weights):
    """Words that start the run; weights: a file of a ViT-B/16, or "" for the built-in model."""
    recipe = "vit_b16_ctxv1" if weights else "builtin"
    words = ["--root", str(root), "--seed", "1", "--trainer", "CoOp", "--no-train"]
    words += ["--dataset-config-file", str(home.find("configs/datasets/digits.yaml"))]
    words += ["--config-file", str(home.find(f"configs/trainers/CoOp/{recipe}.yaml"))]
    pairs = ["MODEL.BACKBONE.PATH", str(Path(weights).absolute())] if weights else []
    return [*python("train"), *words, "DATASET.NUM_SHOTS", "1", "DATALOADER.NUM_WORKERS", "0", *pairs]


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
    words, environment = command(Path(args.root).absolute(), args.weights), {**os.environ, "OMP_NUM_THREADS": "1"}
    found = {"process of its own": [], "fork": [], "fork with weights": []}
    with tempfile.TemporaryDirectory() as folder:
        fresh, kept = Background(environment, folder), Warm(environment, folder)
        measure(fresh, words, of_children)  # makes the data set, and what is kept in ~/.cache
        for _ in range(3):  # the third finds the weights there
            kept.run(words)
        for _ in range(args.calls):
            modules = Warm(environment, folder)
            modules.run(words)  # imports them
            ways = (fresh, of_children), (modules, partial(of_server, modules)), (kept, partial(of_server, kept))
            for calls, (starter, cpu) in zip(found.values(), ways, strict=True):
                calls.append(measure(starter, words, cpu))
            modules.close()
        kept.close()
    rows = [
        {"start": way, "CPU seconds": median(cpu for cpu, _ in calls), "seconds": median(seconds for _, seconds in calls)}
        for way, calls in found.items()
    ]
    for row in rows:
        row["times less CPU"] = rows[0]["CPU seconds"] / row["CPU seconds"]
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    if args.json:
        write_json(rows, args.json)
    return rows


if __name__ == "__main__":
    sys.exit(program.as_process(main))
