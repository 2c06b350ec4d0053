"""From finished runs to documents: means over seeds, harmonic means, averages over datasets, the paper's numbers."""

import dataclasses
import statistics

from basics.scores import main_score
from reproduce import paper, timing
from reproduce.document import Block, Cell, Document, Missing
from reproduce.facts import printed_name
from reproduce.paper import ELEVEN
from reproduce.recorded import differences_from, disagreements, source
from reproduce.results import harmonic_mean, std

BASE_NEW = ("base", "new", "H", "mean of H")
TIME_COLUMN = "s a batch"


class Sources:
    """Reads the runs of a selection below a folder, each file once."""

    def __init__(self, selection, out):
        self.selection, self.out, self.read = selection, out, {}
        self.recipe = selection.plain

    def __call__(self, row, dataset):
        """{column: [Source, or None where it isn't finished, of each run]}"""
        columns, recipe = self.selection.cells(row, dataset), self.recipe.cells(row, dataset)
        return {c: [self._one(*pair) for pair in zip(runs, recipe[c], strict=True)] for c, runs in columns.items()}

    def _one(self, run, recipe):
        if run not in self.read:
            self.read[run] = source(run, recipe, self.out)
        return self.read[run]


def counted(sources):
    """{seed: accuracy in per cent} of the runs that count."""
    return {s.run.seed: s.accuracy for s in sources if s and s.counted}


def marks(sources):
    """Notes of the runs behind a number, each once."""
    return tuple(dict.fromkeys(note for s in sources for note in s.notes))


def cell(sources, wanted, printed=None, notes=(), values=None):
    """Cell of runs, one a seed, or of `values` that are computed from theirs."""
    values = list(counted(sources).values()) if values is None else values
    sources = tuple(s for s in sources if s)
    behind = {"wanted": wanted, "paper": printed, "notes": notes, "marks": marks(sources), "sources": sources}
    if not values:
        return Cell(**behind)
    spread = std(values) if len(values) > 1 else None
    return Cell(statistics.mean(values), spread, len(values), **behind)


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
    """The four cells of BASE_NEW from the Sources on base and new classes."""
    both, on_base, on_new = [*base, *new], counted(base), counted(new)
    by_seed = [harmonic_mean(on_base[seed], on_new[seed]) for seed in on_base if seed in on_new]
    of_means = cell(both, wanted, *printed["H"], values=[])
    if on_base and on_new:
        h = harmonic_mean(statistics.mean(on_base.values()), statistics.mean(on_new.values()))
        of_means = dataclasses.replace(of_means, ours=h, seeds=len(by_seed))
    return [
        cell(base, wanted, *printed["base"]),
        cell(new, wanted, *printed["new"]),
        of_means,
        cell(both, wanted, *printed["mean of H"], values=by_seed),
    ]


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
    behind = [tuple(s for cells in rows for s in cells[i].sources) for i in range(len(columns))]
    return [
        Cell(mean, None, n if mean is not None else 0, wanted, *printed[column], marks(sources), sources)
        for column, mean, n, sources in zip(columns, means, seeds, behind)
    ]


def base_new_blocks(selection, out):
    """Table 1-7's and Figure 4's values: a block a dataset, and their average."""
    experiment, sources = selection.experiment, Sources(selection, out)
    columns = experiment.columns
    blocks, wanted = [], {}
    for dataset in selection.datasets:
        rows = []
        for row in selection.rows:
            cells = sources(row, dataset)
            wanted[row] = len(cells["base"])
            printed = printed_cells(experiment.name, row.name, printed_name(dataset), columns)
            found = base_new_cells(cells["base"], cells["new"], wanted[row], printed)
            if TIME_COLUMN in columns:
                seconds = timing.seconds_a_batch(out, dataset, row.trainer)
                found.append(Cell(seconds, None, 1 if seconds else 0, 1, *printed[TIME_COLUMN]))
            rows.append((row.name, found))
        blocks.append(Block(printed_name(dataset), columns, rows, lower=(TIME_COLUMN,)))
    if len(blocks) > 1:
        whole = set(selection.datasets) == set(ELEVEN)
        rows = []
        for i, row in enumerate(selection.rows):
            printed = printed_cells(experiment.name, row.name, "Average" if whole else "", columns)
            rows.append((row.name, average(columns, [b.rows[i][1] for b in blocks], wanted[row], printed)))
        blocks.insert(0, Block(f"Average of {len(blocks)}", columns, rows, lower=(TIME_COLUMN,)))
    return blocks


def few_shot_blocks(selection, out):
    """Figure 3's values: a block a dataset, a column for each number of shots, and their average."""
    sources, columns = Sources(selection, out), selection.experiment.columns
    blocks = []
    for dataset in selection.datasets:
        rows = []
        for row in selection.rows:
            cells = sources(row, dataset)
            rows.append((row.name, [cell(cells[c], len(cells[c])) for c in columns]))
        several = any(main_score(s.result["metrics"])[0] == "mAP" for _, cells in rows for c in cells for s in c.sources)
        blocks.append(Block(printed_name(dataset) + ", mAP" * several, columns, rows))
    if len(blocks) > 1 and len({block.title.endswith(", mAP") for block in blocks}) == 1:  # no mean of mAP and accuracy
        rows = [
            (row.name, average(columns, [b.rows[i][1] for b in blocks], len(selection.seeds)))
            for i, row in enumerate(selection.rows)
        ]
        blocks.insert(0, Block(f"Average of {len(blocks)}", columns, rows))
    return blocks


def accuracy_blocks(selection, out):
    """Zero-shot and transfer: a column a dataset, and the average of the targets."""
    sources = Sources(selection, out)
    blocks = []
    for part in selection.experiment.columns:
        rows = []
        for row in selection.rows:
            cells = []
            for dataset in selection.datasets:
                runs = sources(row, dataset)[part]
                cells.append(cell(runs, len(runs)))
            targets = [c.ours for c, d in zip(cells, selection.datasets) if d != selection.experiment.source]
            mean = statistics.mean(targets) if targets and None not in targets else None
            behind = tuple(s for c, d in zip(cells, selection.datasets) if d != selection.experiment.source for s in c.sources)
            rows.append((row.name, cells + [Cell(mean, marks=marks(behind), sources=behind)]))
        name = "Accuracy" if part == "accuracy" else f"Accuracy on {part} classes"
        blocks.append(Block(name, tuple(map(printed_name, selection.datasets)) + ("average",), rows))
    return blocks


def document(selection, out, command):
    """Document of a selection from what lies below `out`. command: (row, runs) -> the command that makes them."""
    experiment = selection.experiment
    blocks = experiment.blocks(selection, out)
    absent, other = {}, set()  # rows with folders that hold other runs
    for run, row in selection.runs().items():
        result = run.result(out)
        if result is None or differences_from(run, result):
            absent.setdefault(row, []).append(run)
            other.update([row] * (result is not None))
    missing = [Missing(row.name, tuple(runs), command(row, runs) + " --fresh" * (row in other)) for row, runs in absent.items()]
    printed = set(selection.datasets) & set(ELEVEN)
    notes = tuple(paper.notes(experiment.name)) if printed else ()
    found = Document(experiment.name, caption(selection), blocks, notes, missing)
    return dataclasses.replace(found, notes=notes + tuple(disagreements(found.sources.values())))


def caption(selection):
    """The experiment's caption with the model that its runs use."""
    return f"{selection.experiment.caption}, {' and '.join(selection.backbones())}"


def paper_document(experiment):
    """A printed table by itself."""
    rows = paper.tables().get(experiment.name, {})
    datasets = list(dict.fromkeys(dataset for cells in rows.values() for dataset in cells))
    columns = tuple(column for column in experiment.columns if column != BASE_NEW[-1])
    blocks = []
    for dataset in datasets:
        lines = []
        for row in (row for row in rows if dataset in rows[row]):
            printed = printed_cells(experiment.name, row, dataset, columns)
            lines.append((row, [Cell(paper=printed[c][0], notes=printed[c][1]) for c in columns]))
        blocks.append(Block(dataset, columns, lines))
    name = experiment.name
    return Document(name, f"{experiment.caption}, {experiment.backbone}", blocks, tuple(paper.notes(name)))
