"""Kill runs at random moments, start them again with the same command, and compare with runs that nobody disturbed.

    python -m tests.stress.kills --kills 100
    python -m tests.stress.kills --kills 1000 --changes

A run is killed with SIGKILL at a moment drawn by a seeded generator: after a random time, or right before or halfway
through a step, a test batch, the writing, renaming or removing of a checkpoint or of a cache entry. Some are killed
again while they catch up. At the end every number must be the undisturbed run's, bit for bit: parameters, optimiser,
schedule, random states, metrics.

With --changes, each start has other loading workers, another number of threads, and keeps features of training views or not; and
between kill and resume the same command with another precision must be refused. Runs whose threads never changed are compared bit
for bit, the others to CLOSE: threads add in another order.
"""

import argparse
import collections
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.stress import moments, world

KILLED = -signal.SIGKILL
AGAIN = 0.25  # share of the resumed runs that are killed once more
LATER = ("PromptSRC", "TwoSFS", "TaskRes")  # with a state of their own beside the learner
# Where the number of threads has changed; of a value's largest entry if that is above 1. Undisturbed runs with one thread and
# with two differ, too: MoCoOp's released recipe by more than 1e-3 in a momentum, CoOp by less than 1e-5.
CLOSE = 1e-2


class Campaign:
    """Kills runs of METHODS, one method after the other.

    Args:
        folder: scratch.
        seed: of the moments.
        methods: names of world.METHODS.
        changes: whether workers, threads and kept views change between a run's starts.
    """

    def __init__(self, folder, seed=0, methods=(*world.METHODS, *LATER), changes=False):
        self.changes, self.refused, self.close = changes, 0, 0
        self.folder, self.rng, self.methods = Path(folder), random.Random(seed), methods
        self.data = world.make_data(self.folder / "data")
        self.references = {}
        self.kills = collections.Counter()  # by method
        self.where = collections.Counter()  # by moment
        self.runs = 0
        self.failures = []  # texts

    def reference(self, method):
        """(outcome, {moment: how many}, seconds) of the undisturbed run."""
        if method not in self.references:
            place = self.folder / f"reference-{len(self.references)}"
            data, counts = world.copy_data(self.data, place / "data"), place / "moments.json"
            start = time.monotonic()
            command = world.command(method, data, place / "run")
            status, message = world.run(command, place / "log", [(moments.count, (str(counts),))])
            if status != 0:
                raise RuntimeError(f"{method} fails undisturbed: {status}, {message}")
            seconds = time.monotonic() - start
            self.references[method] = world.outcome(place / "run"), json.loads(counts.read_text()), seconds
        return self.references[method]

    def moment(self, method):
        """A random moment: (name, which), or ("time", seconds)."""
        _, counts, seconds = self.reference(method)
        name = self.rng.choice(["time", *counts])
        return (name, self.rng.uniform(0, seconds)) if name == "time" else (name, self.rng.randint(1, counts[name]))

    def circumstances(self, method):
        """(KEY VALUE words, number of threads) of a start: those of the reference unless they are to change."""
        if not self.changes:
            return (), 1
        words = ["DATALOADER.NUM_WORKERS", self.rng.choice("002")]
        if method not in ("LinearProbe", "PromptSRC", "TwoSFS"):
            words += ["TRAINER.CACHE_VIEWS", self.rng.choice(("True", "False"))]
        return words, self.rng.choice((1, 1, 1, 2))

    def other_precision(self, method, argv, out, log):
        """The same command with another precision: refused once there is something to resume; a text if it isn't."""
        if not self.changes or not any(out.glob("resume/epoch-*.pt")):
            return ""
        key = f"TRAINER.{world.section_of(method)}.PREC"
        status, message = world.run([*argv, key, "bf16"], log)
        self.refused += 1
        return "" if status == 2 and "PREC" in message else f"{method}: {key} bf16 ends with {status}: {message}"

    def kill(self, argv, log, moment, threads):
        """Run until the moment; (exit status, message): KILLED, or 0 where the run had ended before."""
        name, which = moment
        if name != "time":
            return world.run(argv, log, [(world.set_threads, (threads,)), (moments.kill_at, (name, which))])
        process = world.Process(argv, log, [(world.set_threads, (threads,))])
        process.process.join(which)
        process.send(signal.SIGKILL)
        return process.wait()

    def one(self, method, at_most):
        """One run, killed (once or more), resumed, compared."""
        expected, _, _ = self.reference(method)
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        data, out, killed = world.copy_data(self.data, place / "data"), place / "run", []
        argv, numbers = world.command(method, data, out), set()
        while len(killed) < at_most and (not killed or self.rng.random() < AGAIN):
            moment = self.moment(method)
            words, threads = self.circumstances(method)
            numbers.add(threads)
            status, message = self.kill([*argv, *words], place / f"log{len(killed)}", moment, threads)
            if status == 0:
                break  # it was faster than the blow
            if status != KILLED:
                self.failures.append(f"{method}, {moment}: exit status {status}: {message}")
                return
            killed.append(moment)
            wrong = self.other_precision(method, argv, out, place / "other")
            self.failures += [wrong] * bool(wrong)
        words, threads = self.circumstances(method)
        numbers.add(threads)
        status, message = world.run([*argv, *words], place / "last", [(world.set_threads, (threads,))])
        text = f"{method}, killed at {killed}"
        if status != 0:
            self.failures.append(f"{text}: the same command ends with {status}: {message}")
        else:
            tolerance = 0.0 if numbers == {1} else CLOSE
            self.close += bool(tolerance)
            wrong = world.differences(expected, world.outcome(out), tolerance=tolerance) + world.leftovers(out)
            self.failures += [f"{text}: {', '.join(wrong[:5])}"] * bool(wrong)
        self.runs += bool(killed)
        self.kills[method] += len(killed)
        self.where.update(name for name, _ in killed)

    def run(self, kills, seconds):
        """Until there were so many kills, or so many seconds have passed."""
        end = time.monotonic() + seconds
        while self.kills.total() < kills and time.monotonic() < end and len(self.failures) < 10:
            method = min(self.methods, key=lambda m: (self.kills[m], self.methods.index(m)))
            self.one(method, kills - self.kills.total())
        return self


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1800, help="stop after this time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--changes", action="store_true", help="other workers, threads and kept views at each start")
    args = parser.parse_args(argv)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(folder, args.seed, changes=args.changes).run(args.kills, args.seconds)
    for method in campaign.methods:
        print(f"{method:28}{campaign.kills[method]:4} kills")
    print("moments: " + ", ".join(f"{name} {n}" for name, n in campaign.where.most_common()))
    for text in campaign.failures:
        print(f"FAILED {text}")
    if args.changes:
        print(f"{campaign.refused} commands of another precision refused")
        print(f"{campaign.close} runs whose threads changed, compared to {CLOSE}")
    total = campaign.kills.total()
    print(
        f"{total} of {args.kills} kills in {campaign.runs} runs, {len(campaign.failures)} runs differ from the "
        f"undisturbed ones, {time.monotonic() - start:.0f} s"
    )
    return 1 if campaign.failures or total < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
