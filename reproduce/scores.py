"""From finished runs to documents: means over seeds, harmonic means, averages over datasets, the paper's numbers."""

import statistics

from reproduce import facts, paper, timing
from reproduce.document import Block, Cell, Document, Missing
from reproduce.facts import printed_name
from reproduce.paper import ELEVEN
from reproduce.results import harmonic_mean, std
from reproduce.runs import check_same_settings

BASE_NEW = ("base", "new", "H", "mean of H")
TIME_COLUMN = "s a batch"


class Accuracies:
    """Reads accuracies of runs below a folder, each file once."""

    def __init__(self, out):
        self.out, self.read = out, {}

    def __call__(self, run):
        """Accuracy in per cent, or None; UserError if the run was made with other settings."""
        if run not in self.read:
            result = run.result(self.out)
            if result is not None:
                check_same_settings(run, result, run.directory(self.out))
            self.read[run] = None if result is None else result["metrics"]["accuracy"]
        return self.read[run]


def cell(values, wanted, printed=None, notes=()):
    """Cell of a list of numbers, one a seed."""
    if not values:
        return Cell(wanted=wanted, paper=printed, notes=notes)
    spread = std(values) if len(values) > 1 else None
    return Cell(statistics.mean(values), spread, len(values), wanted, printed, notes)


def printed_cells(table, row, dataset, columns=BASE_NEW):
    """{column: (number, notes)} of a row of a printed table."""
    printed = paper.values(table, row, dataset)
    if printed is None:
        return dict.fromkeys(columns, (None, ()))
    notes = tuple(paper.notes(table, row, dataset))
    mark = paper.h_mark(printed)
    found = {"base": (printed[0], ()), "new": (printed[1], notes), "H": (printed[2], (mark,) if mark else ())}
    found[TIME_COLUMN] = (printed[3], ()) if len(printed) > 3 else (None, ())
    return {column: found.get(column, (None, ())) for column in columns}


def base_new_cells(base, new, wanted, printed):
    """The four cells of BASE_NEW from {seed: accuracy} on base and new classes."""
    both = [harmonic_mean(base[seed], new[seed]) for seed in base if seed in new]
    h = harmonic_mean(statistics.mean(base.values()), statistics.mean(new.values())) if base and new else None
    return [
        cell(list(base.values()), wanted, *printed["base"]),
        cell(list(new.values()), wanted, *printed["new"]),
        Cell(h, None, len(both) if h is not None else 0, wanted, *printed["H"]),
        cell(both, wanted, *printed["mean of H"]),
    ]


def by_seed(runs, accuracy):
    return {run.seed: accuracy(run) for run in runs if accuracy(run) is not None}


def average(columns, rows, wanted, printed=None):
    """Cells of means over datasets, None where a dataset has no value. rows: Cells of each dataset."""
    means = []
    for i in range(len(columns)):
        values = [cells[i].ours for cells in rows]
        means.append(None if None in values else statistics.mean(values))
    if columns[:3] == BASE_NEW[:3]:  # as published: H of the average base and the average new accuracy
        means[2] = None if None in means[:2] else harmonic_mean(*means[:2])
    printed = printed or dict.fromkeys(columns, (None, ()))
    seeds = [min(cells[i].seeds for cells in rows) for i in range(len(columns))]
    return [
        Cell(mean, None, n if mean is not None else 0, wanted, *printed[column]) for column, mean, n in zip(columns, means, seeds)
    ]


def base_new_blocks(selection, out):
    """Table 1-7's and Figure 4's values: a block a dataset, and their average."""
    experiment, accuracy = selection.experiment, Accuracies(out)
    columns = experiment.columns
    blocks, wanted = [], {}
    for dataset in selection.datasets:
        rows = []
        for row in selection.rows:
            cells = selection.cells(row, dataset)
            wanted[row] = len(cells["base"])
            printed = printed_cells(experiment.name, row.name, printed_name(dataset), columns)
            base, new = (by_seed(cells[part], accuracy) for part in ("base", "new"))
            found = base_new_cells(base, new, wanted[row], printed)
            if TIME_COLUMN in columns:
                seconds = timing.seconds_a_batch(out, dataset, row.trainer)
                found.append(Cell(seconds, None, 1 if seconds else 0, 1, *printed[TIME_COLUMN]))
            rows.append((row.name, found))
        blocks.append(Block(printed_name(dataset), columns, rows))
    if len(blocks) > 1:
        whole = set(selection.datasets) == set(ELEVEN)
        rows = []
        for i, row in enumerate(selection.rows):
            printed = printed_cells(experiment.name, row.name, "Average" if whole else "", columns)
            rows.append((row.name, average(columns, [b.rows[i][1] for b in blocks], wanted[row], printed)))
        blocks.insert(0, Block(f"Average of {len(blocks)}", columns, rows))
    return blocks


def few_shot_blocks(selection, out):
    """Figure 3's values: a block a dataset, a column for each number of shots, and their average."""
    accuracy, columns = Accuracies(out), selection.experiment.columns
    blocks = []
    for dataset in selection.datasets:
        rows = []
        for row in selection.rows:
            cells = selection.cells(row, dataset)
            rows.append((row.name, [cell(list(by_seed(cells[c], accuracy).values()), len(cells[c])) for c in columns]))
        blocks.append(Block(printed_name(dataset), columns, rows))
    if len(blocks) > 1:
        rows = [
            (row.name, average(columns, [b.rows[i][1] for b in blocks], len(selection.seeds)))
            for i, row in enumerate(selection.rows)
        ]
        blocks.insert(0, Block(f"Average of {len(blocks)}", columns, rows))
    return blocks


def accuracy_blocks(selection, out):
    """Zero-shot and transfer: a column a dataset, and the average of the targets."""
    accuracy = Accuracies(out)
    blocks = []
    for part in selection.experiment.columns:
        rows = []
        for row in selection.rows:
            cells = []
            for dataset in selection.datasets:
                runs = selection.cells(row, dataset)[part]
                cells.append(cell(list(by_seed(runs, accuracy).values()), len(runs)))
            targets = [c.ours for c, d in zip(cells, selection.datasets) if d != selection.experiment.source]
            mean = statistics.mean(targets) if targets and None not in targets else None
            rows.append((row.name, cells + [Cell(mean)]))
        name = "Accuracy" if part == "accuracy" else f"Accuracy on {part} classes"
        blocks.append(Block(name, tuple(map(printed_name, selection.datasets)) + ("average",), rows))
    return blocks


def document(selection, out, command):
    """Document of a selection from what lies below `out`. command: (row, runs) -> the command that makes them."""
    experiment = selection.experiment
    blocks = experiment.blocks(selection, out)
    absent = {}
    for run, row in selection.runs().items():
        if run.result(out) is None:
            absent.setdefault(row, []).append(run)
    missing = [Missing(row.name, tuple(runs), command(row, runs)) for row, runs in absent.items()]
    printed = set(selection.datasets) & set(ELEVEN)
    notes = tuple(paper.notes(experiment.name)) if printed else ()
    return Document(experiment.name, caption(selection), blocks, notes, missing)


def caption(selection):
    """The experiment's caption with the model that its runs use."""
    builtin = sum(map(facts.is_builtin, selection.datasets))
    models = [selection.experiment.backbone] * (builtin < len(selection.datasets)) + ["built-in model"] * (builtin > 0)
    return f"{selection.experiment.caption}, {' and '.join(models)}"


def paper_document(experiment):
    """A printed table by itself."""
    rows = paper.tables().get(experiment.name, {})
    datasets = list(dict.fromkeys(dataset for cells in rows.values() for dataset in cells))
    columns = tuple(column for column in experiment.columns if column != BASE_NEW[-1])
    blocks = []
    for dataset in datasets:
        lines = []
        for row in rows:
            printed = printed_cells(experiment.name, row, dataset, columns)
            lines.append((row, [Cell(paper=printed[c][0], notes=printed[c][1]) for c in columns]))
        blocks.append(Block(dataset, columns, lines))
    name = experiment.name
    return Document(name, f"{experiment.caption}, {experiment.backbone}", blocks, tuple(paper.notes(name)))
