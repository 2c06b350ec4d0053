"""What a grid is doing: a line for every start and end, and on a terminal a last line that counts."""

import statistics
import sys
import time

from basics.scores import main_score

LOG_TAIL = 15  # lines of a failed run that are shown
ALWAYS = 60  # seconds between counting lines where there is no terminal


def duration(seconds):
    """43 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Counts and prints. jobs: all jobs of the grid, in order; out: folder of the results."""

    def __init__(self, jobs, out):
        self.jobs, self.out = jobs, out
        self.index = {job: i for i, job in enumerate(jobs)}
        self.running, self.ended_as, self.spent = set(), {}, {}
        self.most_running = 1
        self.live = sys.stdout.isatty()
        self.begin = self.last_count = time.monotonic()

    def say(self, text):
        """Print a line (above the counting line)."""
        sys.stdout.write(("\r\033[K" if self.live else "") + text + "\n")
        sys.stdout.flush()

    def clear(self):
        """Take the counting line away."""
        if self.live:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()

    def count(self, *words):
        return sum(word in words for word in self.ended_as.values())

    def line(self, word, job, text=""):
        total = str(len(self.jobs))
        done = str(self.count("done", "reused")).rjust(len(total))
        self.say(f"[{done}/{total}] {word:<7} {job.label}{text}")

    def finished_before(self, jobs):
        """Jobs that need not be made."""
        self.ended_as.update(dict.fromkeys(jobs, "reused"))
        if jobs:
            self.say(f"{len(jobs)} of {len(self.jobs)} runs are finished already")

    def started(self, index):
        job = self.jobs[index]
        if job in self.ended_as:
            return
        self.line("again" if job in self.running else "start", job)
        self.running.add(job)
        self.most_running = max(self.most_running, len(self.running))

    def ended(self, job, outcome):
        self.running.discard(job)
        self.ended_as[job] = outcome.word
        if outcome.word == "done":
            self.spent.setdefault(self.kind(job), []).append(outcome.seconds)
        if outcome.word in ("done", "reused"):
            result = job.result(self.out) or {}
            found = main_score(result.get("metrics") or {})
            score = (f": {found[1]:.1f}%" + (f" {found[0]}" if found[0] != "accuracy" else "")) if found else ""
            self.line(outcome.word, job, score + (f" in {duration(outcome.seconds)}" if outcome.word == "done" else ""))
        elif outcome.word == "failed":
            head, _, output = outcome.text.partition("\n")
            tail = "".join("\n    " + line for line in output.rstrip().split("\n")[-LOG_TAIL:])
            self.line("FAILED", job, f": {head}{tail}")
        else:
            self.line(outcome.word, job, ": what it needs has failed")

    @staticmethod
    def kind(job):
        """Jobs of one kind take about the same time."""
        return type(job).__name__, getattr(job, "trainer", ""), getattr(job, "evaluates_only", False)

    def eta(self):
        """Seconds until the end, from the mean durations so far; None before the first run has ended."""
        known = {kind: statistics.mean(values) for kind, values in self.spent.items()}
        if not known:
            return None
        other = statistics.mean(known.values())
        left = sum(known.get(self.kind(job), other) for job in self.jobs if job not in self.ended_as)
        return left / self.most_running

    def show(self):
        """Refresh the counting line; without a terminal, print one once a minute."""
        now = time.monotonic()
        if not self.live and now - self.last_count < ALWAYS:
            return
        self.last_count = now
        eta = self.eta()
        waiting = len(self.jobs) - len(self.ended_as) - len(self.running)
        text = (
            f"{self.count('done', 'reused')} done, {len(self.running)} running, {self.count('failed')} failed, "
            f"{waiting} waiting, {duration(now - self.begin)}" + (f", ETA {duration(eta)}" if eta else "")
        )
        if self.live:
            sys.stdout.write("\r\033[K" + text)
            sys.stdout.flush()
        else:
            self.say(text)

    def summary(self):
        """Print how it ended; returns whether every job is finished."""
        failed = self.count("failed", "skipped")
        self.say(
            f"{len(self.jobs)} runs: {self.count('done')} made in {duration(time.monotonic() - self.begin)}, "
            f"{self.count('reused')} finished before, {failed} not finished"
        )
        if failed:
            self.say("error: some runs failed, see above; the same command tries them again")
        return not failed
