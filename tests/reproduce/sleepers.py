"""Stands in for train.py on Ray: jobs of ten short steps, kept on disk; test_grid.py runs it as a driver.

    python sleepers.py FOLDER [--cluster]

A job stops before the step whose number is in the file JOB.holds of the folder, and goes on once the file allows more.
With --cluster two nodes on this machine share the work, and the second one is killed when two jobs have begun.
"""

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

STEPS = 10
WORK = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "pids").open("a").write(f"{os.getpid()} {os.getppid()}\\n")
steps = folder / "steps"
done = steps.read_text().count("\\n") if steps.exists() else 0
if sys.argv[3] == "broken": sys.exit("error: no such file: weights.pt")
if sys.argv[3] == "user": print("error: no data"); sys.exit(2)
held = folder.with_name(folder.name + ".holds")
for step in range(done, STEPS):
    time.sleep(float(sys.argv[2]))
    while held.exists() and step >= int(held.read_text() or 0): time.sleep(0.01)
    steps.open("a").write(f"{step}\\n")
(folder / "results.json").write_text(json.dumps({"status": "finished", "metrics": {"accuracy": 50.0}}))
""".replace("STEPS", str(STEPS))


@dataclass(frozen=True)
class Sleeper:
    label: str
    seconds: float = 0.15
    training: object = None
    end: str = "well"

    def directory(self, out):
        return Path(out) / self.label

    def result(self, out):
        file = self.directory(out) / "results.json"
        return json.loads(file.read_text()) if file.exists() else None

    def command(self, data, out):
        return [sys.executable, "-c", WORK, str(self.directory(out)), str(self.seconds), self.end]


def pairs(count):
    """`count` trainings and what evaluates them."""
    trainings = [Sleeper(f"train{i}", 0.3 if i == 2 else 0.15) for i in range(count)]
    return [job for t in trainings for job in (t, Sleeper(t.label.replace("train", "test"), 0.01, t))]


def alive_nodes(on):
    return sum(node["Alive"] for node in on.ray.nodes())


def note_nodes(on, folder):
    """Into a file: Ray's own processes write into the driver's output, in the middle of lines too."""
    with open(folder / "nodes", "a", encoding="utf-8") as f:
        f.write(f"{alive_nodes(on)}\n")


def kill_in_the_middle(nodes, node, folder):
    """Kill a node once two jobs have made a step, that is while both nodes are at work."""
    while len(list(folder.glob("*/steps"))) < 2:
        time.sleep(0.02)
    nodes.remove_node(node, allow_graceful=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--broken", action="store_true")
    args = parser.parse_args()
    import sleepers  # not __main__: workers import the jobs' class by this name

    from reproduce import grid, progress

    progress.ALWAYS = 0.5
    options = argparse.Namespace(address=None, cpus_per_run=1, gpus_per_run=None, retries=2, no_cache_features=True)
    grid.available_cores = lambda: 2
    jobs = sleepers.pairs(3)
    if args.broken:
        broken, wrong = (sleepers.Sleeper(end, 0.01, end=end) for end in ("broken", "user"))
        jobs = [broken, wrong, sleepers.Sleeper("needs", 0.01, broken), sleepers.Sleeper("fine", 0.01)]
    if args.cluster:
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": grid.OBJECT_STORE, "include_dashboard": False}
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}  # to notice the dead node soon
        nodes = Cluster(initialize_head=True, head_node_args={**small, "_system_config": quick})
        small.pop("include_dashboard")
        second = nodes.add_node(**small)
        options.address = nodes.address
        killer = threading.Thread(target=kill_in_the_middle, args=(nodes, second, args.folder), daemon=True)
    with grid.cluster(options) as on:
        if args.cluster:
            note_nodes(on, args.folder)
            killer.start()
        finished = grid.make(jobs, "data", args.folder, on)
        end = time.monotonic() + 60  # Ray notices a dead node after some seconds
        while args.cluster and alive_nodes(on) == 2 and time.monotonic() < end:
            time.sleep(0.2)
        if args.cluster:
            note_nodes(on, args.folder)
    sys.exit(0 if finished else 1)


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
