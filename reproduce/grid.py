"""Jobs on Ray: a process for each run (``reproduce.warm``), on this machine or a cluster; finished ones are not repeated.

Ray schedules, waits for what a job needs, and retries what died with its worker or node. A killed driver's state
is on disk: the next call finds finished runs by their results.json and resumes the others from their checkpoints.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass

from basics import UserError, home
from basics.program import EXIT_USER_ERROR, Terminated, on_sigterm
from reproduce.processes import available_cores
from reproduce.progress import Progress
from reproduce.recorded import check_same_settings, make_room
from reproduce.runs import Run
from reproduce.warm import starter

OBJECT_STORE = 80 * 2**20  # bytes; outcomes are small, and a container's /dev/shm often has 64 MiB
POLL = 1.0  # seconds between looks at what started


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray and what one run may use of it."""

    ray: object
    cpus: float
    gpus: float
    retries: int
    cache_features: bool
    folder: str  # in which runs are started


@dataclass(frozen=True)
class Outcome:
    """What became of a job. word: done, reused, failed or skipped."""

    word: str
    seconds: float = 0.0
    text: str = ""


class Died(Exception):
    """A run that ended in a way that another try may mend: (its label, exit status, end of its output)."""

    def __init__(self, label, status, output):
        super().__init__(label, status, output)
        self.label, self.status, self.output = label, status, output


class Board:
    """Actor on the driver's node: collects which jobs have started."""

    def __init__(self):
        self.events = []

    def start(self, index):
        self.events.append(index)

    def take(self):
        """Starts since the last call, as indices of jobs."""
        events, self.events = self.events, []
        return events


@contextlib.contextmanager
def cluster(args):
    """Connect to Ray as the command line says; yields a Cluster."""
    # what is tried again is said by our own lines, without Ray's traceback; read when ray is imported
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "so the task will be retried")
    if not args.address:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on any system: Ray listens on the loopback interface alone
    print("starting Ray" if not args.address else f"connecting to Ray at {args.address}", flush=True)
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            f"--run needs the Python package ray, which is not installed for {sys.executable}: `pip install ray`"
        ) from None
    ours = "" if home.INSTALLED else str(home.PROJECT)
    python_path = os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))
    environment = {"env_vars": {"PYTHONPATH": python_path}} if python_path else {}
    options = {"runtime_env": environment, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if args.address:
            ray.init(address=args.address, **options)
        else:
            ray.init(
                address="local", num_cpus=available_cores(), include_dashboard=False, object_store_memory=OBJECT_STORE, **options
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no connection to Ray at {args.address or 'this machine'}: {error}") from None
    previous = signal.signal(signal.SIGTERM, on_sigterm)  # Ray has set one of its own
    try:
        gpus = args.gpus_per_run
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        check_fits(ray, args.cpus_per_run, gpus)
        yield Cluster(ray, args.cpus_per_run, gpus, args.retries, not args.no_cache_features, str(home.own_folder()))
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, previous)


def check_fits(ray, cpus, gpus):
    """UserError if no node is large enough for one run: Ray would wait for such a node for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        have = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise UserError(
            f"no machine has {cpus:g} CPUs and {gpus:g} GPUs for one run (there are: {have}); "
            "lower --cpus-per-run or --gpus-per-run"
        )


def perform(job, index, data, out, cpus, cache_features, folder, board, needs=None):
    """One job, in a Ray worker, started in ``folder``. needs: Outcome of the job that this one builds on."""
    if needs is not None and needs.word in ("failed", "skipped"):
        return Outcome("skipped")
    if job.result(out) is not None:
        return Outcome("reused")
    board.start.remote(index)
    started = time.monotonic()
    directory = job.directory(out)
    directory.mkdir(parents=True, exist_ok=True)
    command = job.command(data, out, cache_features) if isinstance(job, Run) else job.command(data, out)
    status, output = starter(max(1, int(cpus)), folder, PYTHONUNBUFFERED="1").run(command)
    if status == 0 and job.result(out) is not None:
        return Outcome("done", time.monotonic() - started)
    text = f"exit status {status}, {directory}\n{output}"
    if status == EXIT_USER_ERROR:  # which a retry doesn't mend
        return Outcome("failed", time.monotonic() - started, text)
    raise Died(job.label, status, text)


def check_folders(jobs, out, fresh):
    """UserError for a finished run of other settings in a job's folder; with `fresh` such runs make room."""
    for job in jobs:
        if isinstance(job, Run) and fresh:
            make_room(job, out)
        elif isinstance(job, Run) and (result := job.result(out)) is not None:
            check_same_settings(job, result, job.directory(out))


def make(jobs, data, out, on, fresh=False):
    """Make all jobs on a Cluster; returns whether all are finished in the end. fresh: see `check_folders`."""
    jobs = list(dict.fromkeys(jobs))
    check_folders(jobs, out, fresh)
    progress = Progress(jobs, out)
    progress.finished_before([job for job in jobs if job.result(out) is not None])
    jobs = [job for job in jobs if job not in progress.ended_as]
    try:
        together = [job for job in jobs if not getattr(job, "alone", False)]
        make_some(together, data, out, on, progress)
        for job in jobs:
            if getattr(job, "alone", False):
                make_some([job], data, out, on, progress)
    except (KeyboardInterrupt, Terminated):
        progress.clear()
        raise
    return progress.summary()


def make_some(jobs, data, out, on, progress):
    """Submit jobs, report what becomes of them, return when the last has ended."""
    ray = on.ray
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(Board).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here).remote()
    task = ray.remote(perform).options(
        num_cpus=on.cpus, num_gpus=on.gpus, max_retries=on.retries, retry_exceptions=[Died], scheduling_strategy="SPREAD"
    )
    refs = {}
    for job in jobs:
        needs = refs.get(job.training) if job.training else None
        refs[job] = task.remote(job, progress.index[job], data, out, on.cpus, on.cache_features, on.folder, board, needs)
    by_ref = {ref: job for job, ref in refs.items()}
    pending = list(by_ref)
    while pending:
        ready, pending = ray.wait(pending, num_returns=1, timeout=POLL)
        for index in started_on(ray, board):
            progress.started(index)
        for ref in ready:
            progress.ended(by_ref[ref], outcome_of(ray, ref, by_ref[ref]))
        progress.show()


def started_on(ray, board):
    """Indices of jobs that have started; some are lost where Ray, short of memory, kills actors too."""
    try:
        return ray.get(board.take.remote())
    except ray.exceptions.RayError:
        return []


def outcome_of(ray, ref, job):
    """Outcome of an ended task; failed or skipped if it raised."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if not isinstance(cause, Died):
            return Outcome("failed", text=str(cause or error))
        return Outcome("failed", text=cause.output) if cause.label == job.label else Outcome("skipped")
    except ray.exceptions.RayError as error:  # its worker or node died more often than --retries
        return Outcome("failed", text=str(error))
