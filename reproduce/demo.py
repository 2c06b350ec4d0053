"""The job of `make demo`: base-to-new on built-in sets, every run a process (see ``reproduce.warm``), one table in the end."""

import concurrent.futures
import contextlib
import statistics
import sys
import threading
import time

from tabulate import tabulate

from basics import UserError
from reproduce import facts, recipes
from reproduce.processes import available_cores
from reproduce.recorded import check_same_settings
from reproduce.results import harmonic_mean
from reproduce.runs import Run
from reproduce.single import data_folder, output_folder
from reproduce.warm import starter

DATASETS = ["letters", "digits"]
METHODS = ["ZeroshotCLIP", "CoOp", "MoCoOp"]
LOG_TAIL = 15  # lines of a failed run that are shown


def add_arguments(commands):
    """Add `demo` to the sub-commands of the command line."""
    parser = commands.add_parser("demo", help="base-to-new on built-in sets, one table; nothing is downloaded")
    parser.add_argument("--datasets", nargs="+", default=DATASETS, help="default: %(default)s")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="default: %(default)s")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help="train this long instead (results in <output>/epochs_N)")
    parser.add_argument(
        "--jobs", type=int, default=min(available_cores(), 8), help="runs at a time (default: the cores, here %(default)s)"
    )


def chains(args):
    """Lists of runs to make one after the other: a training run, then its test on the new classes.

    The longest come first, so that no core idles at the end. A method without training has one seed.
    """
    opts = ("OPTIM.MAX_EPOCH", str(args.epochs)) if args.epochs else ()
    found = []
    for method in reversed(args.methods):
        trains = method not in recipes.ZEROSHOT_TRAINERS
        for dataset in args.datasets:
            cfg = recipes.default_cfg(method, dataset, "base2new", 16)
            facts.dataset_file(dataset)
            recipes.trainer_file(method, cfg)
            for seed in args.seeds if trains else args.seeds[:1]:
                found.append(
                    [
                        Run(kind, dataset, method, cfg, seed, opts=opts if trains else ())
                        for kind in ("base2new_train", "base2new_test")
                    ]
                )
    return found


def make_sets(datasets, data):
    """Make the built-in ones of these datasets that aren't there; what goes wrong is for a run to say, which tries it again."""
    for dataset in datasets:
        if facts.is_builtin(dataset):
            with contextlib.suppress(UserError):
                facts.dataset_class(dataset).make(data)


class Progress:
    """Makes the runs of one chain, a line for each start and end."""

    def __init__(self, total, data, out, processes):
        self.total, self.data, self.out, self.processes = total, data, out, processes
        self.reused = self.done = 0

    def line(self, word, run, text=""):
        # one write: print() writes the line end by itself, and another thread's line may come between
        sys.stdout.write(f"[{self.done:>2}/{self.total}] {word:<7} {run.label}{text}\n")
        sys.stdout.flush()

    def make(self, chain):
        """Returns True if every run of the chain is finished in the end."""
        for run in chain:
            directory = run.directory(self.out)
            result = run.result(self.out)
            started = time.monotonic()
            if result is not None:
                check_same_settings(run, result, directory)
                self.reused += 1
                self.done += 1
                self.line("reused", run, f": {result['metrics']['accuracy']:.1f}%")
                continue
            self.line("start", run)
            status, output = self.processes.run(run.command(self.data, self.out, cache_features=True))
            result = run.result(self.out)
            if status != 0 or result is None:
                self.failed(run, directory, status, output)
                return False
            self.done += 1
            self.line("done", run, f": {result['metrics']['accuracy']:.1f}% in {time.monotonic() - started:.0f} s")
        return True

    def failed(self, run, directory, status, output):
        if not self.processes.stopped:
            tail = "\n".join("    " + text for text in output.rstrip().split("\n")[-LOG_TAIL:])
            self.line("FAILED", run, f": exit status {status}, {directory}\n{tail}")


def make_all(found, data, out, jobs):
    """Make all chains, `jobs` at a time; returns (all finished, number of reused runs)."""
    processes = starter(max(1, available_cores() // jobs))
    progress = Progress(sum(map(len, found)), data, out, processes)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            finished = [future.result() for future in [pool.submit(progress.make, chain) for chain in found]]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
    return all(finished), progress.reused


def table(args, found, out):
    """Rows of methods; for each dataset mean base and new accuracy over seeds, H of these, seconds of training."""
    runs = [run for chain in found for run in chain]
    rows = []
    for method in args.methods:
        row = [method]
        for dataset in args.datasets:
            mine = [(run, run.result(out)) for run in runs if (run.trainer, run.dataset) == (method, dataset)]
            base, new = (
                [result["metrics"]["accuracy"] for run, result in mine if run.classes == classes and result]
                for classes in ("base", "new")
            )
            if not base or not new:
                row += [None] * 4
                continue
            base, new = statistics.mean(base), statistics.mean(new)
            seconds = [result["seconds"]["train"] for run, result in mine if run.classes == "base" and result]
            trained = method not in recipes.ZEROSHOT_TRAINERS
            row += [base, new, harmonic_mean(base, new), statistics.mean(seconds) if trained else None]
        rows.append(row)
    columns = ("base", "new", "H", "train s")
    headers = ["method"] + [f"{dataset}\n{column}" for dataset in args.datasets for column in columns]
    return tabulate(rows, headers, floatfmt=".1f", missingval="-")


def main(args):
    data, out = data_folder(), output_folder()
    if args.epochs:
        out = out / f"epochs_{args.epochs}"
    found = chains(args)
    started = time.monotonic()
    # beside the first runs' imports; a run that needs a set waits for it
    making = threading.Thread(target=make_sets, args=(args.datasets, data))
    making.start()
    finished, reused = make_all(found, data, out, max(1, args.jobs))
    making.join()
    total = sum(map(len, found))
    print(f"\n{total} runs in {time.monotonic() - started:.0f} s, {reused} of them finished before; results in {out}\n")
    seeds = f"seed {args.seeds[0]}" if len(args.seeds) == 1 else f"mean over seeds {', '.join(map(str, args.seeds))}"
    print(
        f"Base-to-new, 16 shots, accuracy in %, {seeds} (zero-shot has none); H of the means.\n"
        "Training images are encoded once per set and seed, by the method that comes first (the last row); the train\n"
        "seconds of the others are without it.\n"
    )
    print(table(args, found, out))
    if not finished:
        print("\nerror: some runs failed, see above; the same command tries them again")
    return 0 if finished else 1
