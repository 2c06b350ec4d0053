"""Collects the results of runs and summarises them over seeds; also reads the log.txt files of published code.

A run is a folder with results.json (ours) or log.txt (CoOp, KgCoOp and their kin). Runs whose folders share a parent
differ in the seed and are summarised together.
"""

import contextlib
import math
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from basics import UserError
from basics.identity import deciding, describe, differences
from basics.scores import main_score
from reproduce.recorded import selection_note
from reproduce.runs import read_result

METRICS = {
    "accuracy": "accuracy",
    "mAP": "mAP",
    "error": "error_rate",
    "macro_f1": "macro_f1",
    "ece": "ece",
}  # name in logs: name in results.json
NUMBER = r"([-+]?[\d.]+(?:[eE][-+]?\d+)?|nan)"
LOG_LINE = re.compile(rf"^\* ({'|'.join(METRICS)}): {NUMBER}%$")
TRAINING_LINE = re.compile(r"^epoch \[\d+/\d+\]")
MARK = " *"  # of rows whose settings were chosen in a published way
END_OF_TRAINING = ("Finish training", "Finished training")
MADE_ROOM = re.compile(r"replaced-\d+")  # where --fresh of train.py puts the files of an earlier run
CLASSES_FOLDER = {"train_base": "base", "test_base": "base", "test_new": "new"}


@dataclass(frozen=True)
class Result:
    """The test metrics of one run, in per cent: accuracy (or mAP), error, macro_f1 where the file has them.

    settings: those that decide the numbers, as far as results.json names them. note: what tables say of the run.
    held_out: whether it was tested on validation images of held-out classes, to choose settings: no result of the method.
    """

    path: Path
    metrics: dict
    settings: dict = field(default_factory=dict)
    note: str = ""
    held_out: bool = False

    @property
    def experiment(self):
        """The folder that holds the seeds."""
        return self.path.parent.parent


def harmonic_mean(base, new):
    """H of two accuracies; 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def std(values):
    """Standard deviation over n (not n - 1), as the published tables have it."""
    return statistics.pstdev(values)


def ci95(values):
    """Half width of the 95 % confidence interval of the mean, normal approximation, as published."""
    return 1.96 * std(values) / math.sqrt(len(values))


def read_log(path):
    """Metrics of the last test in a log.txt, as printed there; None if training hasn't ended or nothing was tested.

    Tests before the end of training (on the validation set) don't count; a log without training counts whole.
    """
    metrics, trains, ended = {}, False, False
    with open(path, errors="replace") as lines:
        for line in map(str.strip, lines):
            if TRAINING_LINE.match(line):
                trains, ended = True, False
            elif line in END_OF_TRAINING:
                ended = True
                metrics = {}
            elif line == "=> result":
                metrics = {}
            else:
                match = LOG_LINE.match(line)
                if match:
                    with contextlib.suppress(ValueError):  # 1.2.3
                        metrics[match[1]] = float(match[2])
    return metrics if main_score(metrics) and (ended or not trains) else None


def read_run(directory):
    """Result of the run in a folder, results.json first, then the newest of its logs that has one; None if none has."""
    result = read_result(directory)
    if result is not None:
        metrics = {name: result["metrics"][key] for name, key in METRICS.items() if key in result["metrics"]}
        settings = deciding(result.get("config") or {})
        held_out = bool(settings.get("DATASET.HELD_OUT"))
        return Result(directory / "results.json", metrics, settings, selection_note(result), held_out)
    logs = sorted(directory.glob("log.txt*"), key=lambda path: path.name, reverse=True)
    for log in logs:
        metrics = read_log(log)
        if metrics:
            return Result(log, metrics)
    return None


def collect(directory):
    """(results, folders of runs without one) at and below a folder, or for one log file."""
    if directory.is_file():
        metrics = read_log(directory)
        return ([Result(directory, metrics)], []) if metrics else ([], [directory])
    if not directory.is_dir():
        raise UserError(f"no such folder or file: {directory}")
    found = {path.parent for name in ("log.txt*", "results.json") for path in directory.rglob(name)}
    folders = sorted(f for f in found if not any(map(MADE_ROOM.fullmatch, f.relative_to(directory).parts)))
    read = [(folder, read_run(folder)) for folder in folders]
    return [result for _, result in read if result], [folder for folder, result in read if result is None]


def group_by_experiment(results):
    """{folder that holds the seeds: its results}, in order of the folders."""
    groups = {}
    for result in results:
        groups.setdefault(result.experiment, []).append(result)
    return groups


def split_classes(experiment):
    """("base" | "new" | "", the folder's path without the part that says so)."""
    for at in reversed(range(len(experiment.parts))):
        if experiment.parts[at] in CLASSES_FOLDER:
            return CLASSES_FOLDER[experiment.parts[at]], experiment.parts[:at] + ("*",) + experiment.parts[at + 1 :]
    return "", experiment.parts


def method_of(experiment):
    """shots_<n>/<trainer>/<cfg> of an experiment's folder, which an average over data sets has in common; "" in other trees."""
    tail = experiment.parts[-3:]
    return "/".join(tail) if len(tail) == 3 and tail[0].startswith("shots_") else ""


def base_new_rows(groups):
    """Rows (experiment, seeds, base, new, H) for every pair of experiments that differ in train_base / test_new only.

    base and new are means over the seeds, H the harmonic mean of these two means. Where experiments differ in the
    dataset only (<dataset>/shots_<n>/<trainer>/<cfg>), a row has the averages over datasets and their H, as published.
    """
    pairs, marked = {}, set()
    for experiment, results in groups.items():
        classes, key = split_classes(experiment)
        if any(result.note for result in results):
            marked.add(key)
        if classes and all("accuracy" in result.metrics for result in results):
            pairs.setdefault(key, {})[classes] = [result.metrics["accuracy"] for result in results]
    rows, methods = [], {}
    for key, pair in pairs.items():
        if len(pair) == 2:
            base, new = statistics.mean(pair["base"]), statistics.mean(pair["new"])
            tail = key[key.index("*") + 1 :]
            name = ("/".join(tail) or str(Path(*key[:-1]))) + (MARK if key in marked else "")
            rows.append([name, f"{len(pair['base'])}, {len(pair['new'])}", base, new, harmonic_mean(base, new)])
            methods.setdefault((tail[1:], key in marked), []).append((base, new))
    for (tail, mark), scores in methods.items():
        if len(scores) > 1:
            base, new = (statistics.mean(column) for column in zip(*scores))
            name = "/".join((f"average of {len(scores)}",) + tail) + (MARK if mark else "")
            rows.append([name, "", base, new, harmonic_mean(base, new)])
    return rows


def print_experiment(experiment, members, spread):
    """Print an experiment's runs and, for each metric, mean and spread; returns {metric: mean}."""
    print(f"Parsing files in {experiment}")
    for result in members:
        print(f"file: {result.path}. " + " ".join(f"{k}: {v:.2f}%." for k, v in result.metrics.items()))
    for result in members[1:]:
        other = [found for found in differences(members[0].settings, result.settings) if found[0] != "SEED"]
        if other:
            print(f"WARNING: {result.path} is no other seed of {members[0].path}, it differs in {describe(other)}")
    for note in dict.fromkeys(result.note for result in members if result.note):
        print(f"Note: {note}")
    print(f"===\nSummary of directory: {experiment}")
    means = {}
    for name in METRICS:
        values = [result.metrics[name] for result in members if name in result.metrics]
        if values:
            means[name] = statistics.mean(values)
            print(f"* {name}: {means[name]:.2f}% +- {spread(values):.2f}%")
    print("===")
    return means


def summarise(directory, spread=std):
    """Print each run's metrics, mean and spread of each experiment, averages, and H of base-to-new pairs."""
    results, without = collect(directory)
    for folder in without:
        print(f"no result (not finished?): {folder}")
    choosing = [result for result in results if result.held_out]
    if choosing:
        print(
            f"left out: {len(choosing)} runs on held-out classes, which choose settings (DATASET.HELD_OUT): {choosing[0].path} …"
        )
        results = [result for result in results if not result.held_out]
    if not results:
        raise UserError(f"no finished run in {directory}: neither a results.json nor a log.txt with a test result")
    groups = group_by_experiment(results)
    averages = {}
    for experiment, members in groups.items():
        means = print_experiment(experiment, members, spread)
        averages.setdefault((split_classes(experiment)[0], method_of(experiment)), []).append(means)
    methods = {method for _, method in averages}
    for (classes, method), experiments in averages.items():
        if len(experiments) > 1:
            which = (f" on {classes} classes" if classes else "") + (f" of {method}" if len(methods) > 1 else "")
            print(f"Average performance of {len(experiments)} experiments{which}")
            for name in METRICS:
                values = [means[name] for means in experiments if name in means]
                if values:
                    print(f"* {name}: {statistics.mean(values):.2f}%")
    rows = base_new_rows(groups)
    if rows:
        print("\n" + tabulate(rows, ["experiment", "seeds", "base", "new", "H"], floatfmt=".2f"))
        if any(row[0].endswith(MARK) for row in rows):
            print(f"{MARK.strip()} chosen in a published way: see the notes above")


def add_arguments(commands):
    """Add `summarise` to the sub-commands of the command line."""
    parser = commands.add_parser("summarise", help="mean and spread over seeds of the runs below a folder")
    parser.add_argument("directory", type=Path, help="a folder with runs of ours or published log.txt files below it")
    parser.add_argument("--ci95", action="store_true", help="95%% confidence interval instead of standard deviation")


def main(args):
    summarise(args.directory, ci95 if args.ci95 else std)
    return 0
