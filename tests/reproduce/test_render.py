"""Formats of tables: LaTeX that fits its pages, and which numbers are marked as the best."""

import shutil
import subprocess

import pytest

from reproduce.__main__ import main
from reproduce.document import Block, Cell, Document
from reproduce.render import LATEX_LINES, as_latex, as_markdown

LATEX = shutil.which("pdflatex")


def test_latex_is_cut_into_tables_of_a_page(capsys):
    assert main(["table1", "--paper", "--format", "latex"]) == 0
    text = capsys.readouterr().out
    parts = text.split(r"\begin{table}")[1:]
    assert len(parts) > 1 and text.count(r"\label{") == 1 and all(part.count(r"\\") <= LATEX_LINES for part in parts)
    assert "(continued)" not in parts[0] and all("(continued)" in part for part in parts[1:])


@pytest.mark.skipif(not LATEX, reason="no pdflatex on this machine")
@pytest.mark.parametrize("name", ["table1", "table2", "crossdataset", "fig3"])
def test_latex_fits_its_pages(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    assert main([name, "--format", "latex", "--out", str(tmp_path / "table.tex")]) == 0
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n\\input{table}\n\\end{document}\n"
    (tmp_path / "page.tex").write_text(head)
    command = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and "too large" not in done.stdout, done.stdout


def test_best_of_each_column():
    rows = [
        ("a", [Cell(70.001), Cell(2.0), Cell()]),
        ("b", [Cell(70.004), Cell(1.0), Cell(3.0)]),
        ("c", [Cell(69), Cell(), Cell()]),
    ]
    assert Block("t", ("base", "s", "new"), rows, lower=("s",)).best() == {(0, 0), (1, 0), (1, 1)}
    assert Block("t", ("base", "s", "new"), rows, ranked=False).best() == set()


def test_a_p_is_never_zero():
    cells = [Cell(0.0004, digits=3, p=True), Cell(0.0006, digits=3, p=True), Cell(0.0, digits=3)]
    document = Document("study", "p", [Block("t", ("a", "b", "c"), [("row", cells)])])
    assert "| row | <0.001 | 0.001 | 0.000 |" in as_markdown(document)
    assert "row & $<$0.001 & 0.001 & 0.000" in as_latex(document)
