"""The study of MoCoOp's variants: base-to-new on the built-in sets, and differences to two of its rows, paired by seed."""

import dataclasses
import statistics

from reproduce import router_use, scores
from reproduce.document import Block, Cell
from reproduce.kinds import BaseToNew
from reproduce.results import harmonic_mean, std

LEVEL = 0.05  # of the tests, after Holm's correction over the rows of a block


class Study(BaseToNew):
    """Base-to-new with paired differences. `references`: rows to which the others are compared, and why."""

    seeds = (1, 2, 3, 4, 5)
    references = {"CoOp": "is it better than CoOp?", "MoCoOp, paper": "what does the change do?"}

    def jobs(self, selection, gpus):
        """Seed by seed, so that what an interrupted study has made is whole for some seeds."""
        each = [dataclasses.replace(selection, seeds=(seed,)) for seed in selection.seeds]
        return list(dict.fromkeys(run for part in each for run in part.runs()))

    def candidates(self):
        yield self, self.datasets

    def own_rows(self, selection, dataset):
        return [row for row in selection.rows if len(row.changes(dataset, selection.recipe)) > 0 and row.trainer == "MoCoOp"]

    def blocks(self, selection, out):
        read = scores.Sources(selection, out)
        by_row = {row.name: {d: h_by_seed(read(row, d)) for d in selection.datasets} for row in selection.rows}
        found = scores.base_new_blocks(selection, out)
        for reference, question in self.references.items():
            if reference in by_row:
                found.append(difference_block(by_row, reference, question, selection))
        found.append(router_block(selection, out))
        return [block for block in found if block.rows]

    def document(self, selection, out, command):
        document = scores.document(selection, out, command)
        notes = (
            "Differences of H are paired by seed (the same images, order and initial values): mean ± deviation over seeds. "
            "p: two-sided t-test (scipy.stats.ttest_1samp) of the seeds' differences, each the mean over the sets, with Holm's "
            f"correction over the rows of the block; below {LEVEL} it counts as a difference",
        )
        return dataclasses.replace(document, notes=document.notes + notes)


def h_by_seed(cells):
    """{seed: H} of a row on a set, of the seeds whose runs on base and on new classes count."""
    base, new = scores.counted(cells["base"]), scores.counted(cells["new"])
    return {seed: harmonic_mean(base[seed], new[seed]) for seed in base if seed in new}


def difference_block(by_row, reference, question, selection):
    """Block of differences of H to a row: a column a set, their mean, and its p."""
    rows, raw = [], []
    for name in by_row:
        if name == reference:
            continue
        each = {d: by_seed_difference(by_row[name][d], by_row[reference][d]) for d in selection.datasets}
        seeds = sorted(set.intersection(*map(set, each.values()))) if each else []
        means = [statistics.mean(each[d][seed] for d in selection.datasets) for seed in seeds]
        cells = [cell_of(list(each[d].values()), len(selection.seeds)) for d in selection.datasets]
        rows.append((name, [*cells, cell_of(means, len(selection.seeds))]))
        raw.append(p_value(means))
    for (_, cells), p in zip(rows, holm(raw), strict=True):
        cells.append(Cell(p, digits=3, p=True))
    columns = (*map(scores.printed_name, selection.datasets), "mean", "p")
    return Block(f"Difference of H to {reference}: {question}", columns, rows, ranked=False)


def by_seed_difference(own, other):
    """{seed: own H - other H}; a row without training has one run, which stands for every seed."""
    if not own or not other:
        return {}
    seeds = own.keys() & other.keys() if min(len(own), len(other)) > 1 else max(own, other, key=len).keys()
    alone = lambda values, seed: values.get(seed, next(iter(values.values())))  # noqa: E731
    return {seed: alone(own, seed) - alone(other, seed) for seed in sorted(seeds)}


def cell_of(values, wanted):
    """Cell of differences, one a seed."""
    if not values:
        return Cell(wanted=wanted)
    return Cell(statistics.mean(values), std(values) if len(values) > 1 else None, len(values), wanted)


def p_value(differences):
    """Two-sided p of a paired t-test that the differences' mean is 0; None for fewer than two, or where they don't vary."""
    if len(differences) < 2 or std(differences) == 0:
        return None
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(values):
    """Holm's correction (1979) of p values, None where there is none: the i-th smallest of n times n - i, never decreasing."""
    order = sorted((i for i, p in enumerate(values) if p is not None), key=lambda i: values[i])
    found, highest = [None] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[i]))
        found[i] = highest
    return found


def router_block(selection, out):
    """Block of the share of test images of base classes for which the router chose its most frequent set of experts."""
    rows = []
    for row in selection.rows:
        cells = []
        for dataset in selection.datasets if row.trainer == "MoCoOp" else ():
            reports = [(run.result(out) or {}).get("router") for run in selection.cells(row, dataset)["base"]]
            shares = [100 * report["sets"][0]["share"] for report in reports if router_use.is_report(report)]
            cells.append(cell_of(shares, len(selection.seeds)))
        if cells:
            rows.append((row.name, cells))
    columns = tuple(map(scores.printed_name, selection.datasets))
    title = "Images of base classes that the router sends to its most frequent pair of experts, in %"
    return Block(title, columns, rows, ranked=False)
