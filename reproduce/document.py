"""A table or the values of a figure as data: blocks of rows whose cells hold our number and the paper's."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One number of ours and the paper's.

    ours: mean over seeds, None if no run is finished. std: over n, None for one value or where it has no meaning.
    seeds: how many runs are in the mean. wanted: how many should be. paper: as printed, or None. notes: on the print.
    marks: how runs depart from the recipe. sources: the runs' Source, those that don't count too. digits: behind the point.
    p: whether it is the p of a test, which is never printed as 0.
    """

    ours: float | None = None
    std: float | None = None
    seeds: int = 0
    wanted: int = 0
    paper: float | None = None
    notes: tuple = ()
    marks: tuple = ()
    sources: tuple = ()
    digits: int = 2
    p: bool = False

    @property
    def difference(self):
        return None if self.ours is None or self.paper is None else self.ours - self.paper


@dataclass(frozen=True)
class Block:
    """One dataset's part of a table: rows of (name, one Cell a column).

    lower: columns whose lowest number is the best. ranked: whether rows compete at all.
    """

    title: str
    columns: tuple
    rows: list
    lower: tuple = ()
    ranked: bool = True

    def best(self):
        """{(row, column)}, as indices, of the best of our numbers in each column, to two decimals: two rows or more have one."""
        found = set()
        for c, column in enumerate(self.columns) if self.ranked else ():
            values = {r: round(cells[c].ours, 2) for r, (_, cells) in enumerate(self.rows) if cells[c].ours is not None}
            if len(values) > 1:
                best = (min if column in self.lower else max)(values.values())
                found |= {(r, c) for r, value in values.items() if value == best}
        return found


@dataclass(frozen=True)
class Document:
    """A table, or what a figure draws. notes: on the paper's whole table; missing: Missing rows."""

    name: str
    caption: str
    blocks: list
    notes: tuple = ()
    missing: list = field(default_factory=list)

    @property
    def sources(self):
        """{folder: Source} of all runs behind the numbers, in their order."""
        cells = (cell for block in self.blocks for _, row in block.rows for cell in row)
        return {source.folder: source for cell in cells for source in cell.sources}


@dataclass(frozen=True)
class Missing:
    """Runs of one row that aren't finished, and the command that makes them."""

    row: str
    runs: tuple
    command: str
