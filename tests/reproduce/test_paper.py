"""The paper's tables as data: complete, printed number for number, contradictions marked."""

import csv
import io
import json
import pathlib
import re

import pytest
import yaml

from reproduce import paper
from reproduce.__main__ import main
from reproduce.experiments import ELEVEN, EXPERIMENTS, FOUR
from reproduce.facts import printed_name
from reproduce.recipes import method_names
from reproduce.results import harmonic_mean

TABLES = sorted(paper.tables())
RAW = yaml.safe_load(pathlib.Path(paper.FILE).read_text(encoding="utf-8"))
ELSEWHERE = yaml.safe_load(pathlib.Path(paper.ELSEWHERE).read_text(encoding="utf-8"))


def numbers(table):
    """[(row, dataset, column, number)] of a table in the data file."""
    columns = ("base", "new", "H", "s a batch")
    found = []
    for row, cells in RAW[table].items():
        cells = {"Caltech101": cells} if table == "table6" else cells
        found += [(str(row), d, c, v) for d, values in cells.items() for c, v in zip(columns, values)]
    if table == "table1":
        found += [(row, "Average", c, v) for row, printed in ELSEWHERE.items() for c, v in zip(columns, printed["Average"])]
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_number_of_the_data_file_is_printed_in_every_format(table, capsys):
    outputs = {}
    for kind in ("json", "csv", "text", "markdown", "latex"):
        assert main([table, "--paper", "--format", kind]) == 0
        outputs[kind] = capsys.readouterr().out
    blocks = {b["dataset"]: b["rows"] for b in json.loads(outputs["json"])["blocks"]}
    lines = {(r["row"].removeprefix("'"), r["dataset"], r["column"]): r for r in csv.DictReader(io.StringIO(outputs["csv"]))}
    expected = numbers(table)
    assert sum(len(row) for rows in blocks.values() for row in rows.values()) == len(expected) == len(lines)
    for row, dataset, column, value in expected:
        assert blocks[dataset][row][column]["paper"] == value
        assert float(lines[row, dataset, column]["paper"]) == value
    for kind in ("text", "markdown", "latex"):
        printed = re.split(r"\n\W*(?:par.footnotesize )?(?:\[a\]|Note:)", outputs[kind])[0]
        found = re.findall(r"(?<![\w.])\d+\.\d\d(?![\w.])", printed)
        assert sorted(found) == sorted(f"{value:.2f}" for *_, value in expected)


@pytest.mark.parametrize("table", TABLES)
def test_h_is_recomputed_and_marked_where_it_is_off(table, capsys):
    main([table, "--paper", "--format", "json"])
    for block in json.loads(capsys.readouterr().out)["blocks"]:
        for row in block["rows"].values():
            base, new, h = (row[c]["paper"] for c in ("base", "new", "H"))
            off = abs(harmonic_mean(base, new) - h) > 0.02
            assert any("harmonic mean of the printed" in note for note in row["H"].get("notes", ())) == off


def test_the_marked_h_are_these():
    marked = {(t, r, d) for t in TABLES for r, cells in paper.tables()[t].items() for d, v in cells.items() if paper.h_mark(v)}
    assert marked == {
        ("table1", "ProGrad", "UCF101"),
        ("table2", "CoOp", "Caltech101"),
        ("table2", "CoOp", "EuroSAT"),
        ("table2", "CoOp", "UCF101"),
        ("table2", "CoOp", "Flowers102"),
        ("table3", "2", "EuroSAT"),
        ("table7", "3", "EuroSAT"),
        ("table7", "3", "Flowers102"),
        ("table7", "5", "UCF101"),
    }


def test_every_note_belongs_to_a_number():
    for table, row, dataset, _ in paper._notes():
        assert not row or paper.values(table, row, dataset), (table, row, dataset)


@pytest.mark.parametrize("table", TABLES)
def test_rows_and_datasets_of_the_experiments_are_those_in_print(table):
    experiment, printed = EXPERIMENTS[table], paper.tables()[table]
    own = [row for row in printed if table != "table1" or row not in ELSEWHERE]
    assert [row.name for row in experiment.rows if not row.recipe] == own
    names = [printed_name(d) for d in experiment.datasets]
    assert all(set(printed[row]) - {"Average"} == set(names) for row in own)


def test_other_methods_averages_say_where_they_are_printed(capsys):
    assert set(ELSEWHERE) <= set(method_names())
    main(["table1", "--paper", "--format", "json"])
    (average,) = (block for block in json.loads(capsys.readouterr().out)["blocks"] if block["dataset"] == "Average")
    for name, printed in ELSEWHERE.items():
        assert f"printed in {printed['source']}" in average["rows"][name]["new"]["notes"]


def test_sizes_of_the_grid():
    assert len(ELEVEN) == 11 and len(EXPERIMENTS["table1"].rows) == 6 and len(FOUR) == 4
    assert sum(len(numbers(t)) for t in TABLES) == 6 * 12 * 3 + 3 * len(ELSEWHERE) + (4 + 3 + 2 + 2 + 4) * 4 * 3 + 3 * 4


def test_paper_and_run_exclude_each_other(capsys):
    assert main(["table1", "--paper", "--run"]) == 2
    assert "leave out --run" in capsys.readouterr().err
