"""The paper's Tables 1-7 as printed, and where the print contradicts itself."""

import functools
from pathlib import Path

import yaml

from reproduce.results import harmonic_mean

FILE = Path(__file__).with_name("paper_tables.yaml")
ELSEWHERE = FILE.with_name("printed_elsewhere.yaml")
ELEVEN = (  # in Table 1's order
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft", "sun397", "dtd",
    "eurosat", "ucf101",
)  # fmt: skip
FOUR = ("caltech101", "eurosat", "ucf101", "oxford_flowers")
TOLERANCE = 0.02  # a printed H differs from that of the unrounded values by up to about 0.01


@functools.cache
def elsewhere():
    """{method: {"Average": [base, new, H], "source": paper}} of methods that the paper has no row of."""
    return yaml.safe_load(ELSEWHERE.read_text(encoding="utf-8"))


@functools.cache
def tables():
    """{table1 ... table7: {row: {dataset: [base, new, H, ...]}}} with row names as text; table6 also has seconds.

    Table 1 also has the averages that papers on other methods print.
    """
    read = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    del read["notes"]
    for method, printed in elsewhere().items():
        read["table1"].setdefault(method, {"Average": printed["Average"]})
    by_dataset = lambda cells: cells if isinstance(cells, dict) else {"Caltech101": cells}  # noqa: E731  (Table 6's only one)
    return {name: {str(row): by_dataset(cells) for row, cells in rows.items()} for name, rows in read.items()}


def values(table, row, dataset):
    """[base, new, H] (Table 6: and seconds) as printed; None where the paper prints nothing. dataset: as printed."""
    return tables().get(table, {}).get(row, {}).get(dataset)


def h_mark(printed):
    """What is wrong with a printed H; "" if it is the harmonic mean of the printed base and new."""
    base, new, h = printed[:3]
    true = harmonic_mean(base, new)
    if abs(true - h) <= TOLERANCE:
        return ""
    return f"the harmonic mean of the printed {base:.2f} and {new:.2f} is {true:.2f}"


@functools.cache
def _notes():
    notes = yaml.safe_load(FILE.read_text(encoding="utf-8"))["notes"]
    sources = [("table1", method, "Average", f"printed in {printed['source']}") for method, printed in elsewhere().items()]
    return [(note["table"], str(note.get("row", "")), note.get("dataset", ""), note["text"]) for note in notes] + sources


def notes(table, row="", dataset=""):
    """Notes on a printed table (row and dataset left out), or on one row of a dataset in it."""
    return [text for *where, text in _notes() if where == [table, row, dataset]]
