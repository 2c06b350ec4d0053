"""Documents as text for a terminal, Markdown, LaTeX, CSV and JSON."""

import json
import re

from tabulate import tabulate

from basics import spreadsheet
from reproduce.recorded import provenance

GREEN, RED, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[1m", "\033[0m"
LATEX_LINES = 38  # of a table on a page with its caption
FORMATS = ("text", "markdown", "latex", "csv", "json")
MARKS = "abcdefghijklmnopqrstuvwxyz"
LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
         "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "λ": r"$\lambda$", "τ": r"$\tau$", "±": r"$\pm$", "→": r"$\to$", "<": "$<$"}  # fmt: skip


class Footnotes:
    """Marks a, b, ... for the notes of cells, in order of their appearance."""

    def __init__(self):
        self.texts = []

    def marks(self, notes):
        for note in notes:
            if note not in self.texts:
                self.texts.append(note)
        return ",".join(self.letter(self.texts.index(note)) for note in notes)

    @staticmethod
    def letter(index):
        return MARKS[index] if index < len(MARKS) else MARKS[index // len(MARKS) - 1] + MARKS[index % len(MARKS)]

    def lines(self):
        return [(self.letter(i), text) for i, text in enumerate(self.texts)]


def ours_text(cell, footnotes):
    marks = footnotes.marks(cell.marks)
    return _ours(cell) + (f" [{marks}]" if marks else "")


def _ours(cell):
    if cell.ours is None:
        return "-"
    spread = f" ± {cell.std:.{cell.digits}f}" if cell.std is not None else ""
    short = f" ({cell.seeds}/{cell.wanted})" if 0 < cell.seeds < cell.wanted else ""
    smallest = 10**-cell.digits
    value = f"<{smallest:.{cell.digits}f}" if cell.p and cell.ours < smallest / 2 else f"{cell.ours:.{cell.digits}f}"
    return f"{value}{spread}{short}"


def paper_text(cell, footnotes):
    if cell.paper is None:
        return "-"
    marks = footnotes.marks(cell.notes)
    return f"{cell.paper:.2f}" + (f" [{marks}]" if marks else "")


def difference_text(cell, colour):
    if cell.difference is None:
        return "-"
    text = f"{cell.difference:+.2f}"
    return (GREEN if cell.difference >= 0 else RED) + text + PLAIN if colour else text


def grid(block, footnotes, paper_only=False, colour=False, strong=str):
    """(headers, rows of text) of a block: ours, the paper's where it prints some, and the difference.

    strong: what marks the best of ours in a column.
    """
    printed = [any(row[1][i].paper is not None for row in block.rows) for i in range(len(block.columns))]
    best = block.best()
    headers, rows = [""], [[name] for name, _ in block.rows]
    for i, column in enumerate(block.columns):
        cells = [row[1][i] for row in block.rows]
        if not paper_only:
            headers.append(column)
            for r, (row, cell) in enumerate(zip(rows, cells)):
                text = ours_text(cell, footnotes)
                row.append(strong(text) if (r, i) in best else text)
        if printed[i]:
            headers += [column] if paper_only else ["paper", "diff"]
            for row, cell in zip(rows, cells):
                row.append(paper_text(cell, footnotes))
                if not paper_only:
                    row.append(difference_text(cell, colour))
    return headers, rows


def notes_of(document, footnotes):
    """All notes as text lines."""
    return [f"[{mark}] {text}" for mark, text in footnotes.lines()] + [f"Note: {text}." for text in document.notes]


def missing_lines(document):
    """What isn't there yet: per row its number of runs and the command."""
    lines = []
    for item in document.missing:
        datasets = list(dict.fromkeys(run.dataset for run in item.runs))
        count = f"{len(item.runs)} run{'s' if len(item.runs) != 1 else ''}"
        lines.append(f"{item.row}: {count} missing ({', '.join(datasets)})\n    {item.command}")
    return lines


def as_text(document, paper_only=False, colour=False):
    footnotes, parts = Footnotes(), [f"{title(document)}"]
    for block in document.blocks:
        headers, rows = grid(block, footnotes, paper_only, colour, (BOLD + "{}" + PLAIN).format if colour else str)
        parts.append(
            f"{block.title}\n"
            + tabulate(rows, headers, disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1))
        )
    notes = notes_of(document, footnotes)
    if notes:
        parts.append("\n".join(notes))
    if document.missing and not paper_only:
        total = sum(len(item.runs) for item in document.missing)
        parts.append("\n".join([f"Missing: {total} runs. These commands make them:"] + missing_lines(document)))
    return "\n\n".join(parts) + "\n"


def runs_lines(document):
    """Lines that lead from the numbers to the runs behind them: where, when, with what."""
    lines = []
    for folder, source in document.sources.items():
        known = ", ".join(f"{name} {short(text)}" for name, text in provenance(source).items() if text and name != "folder")
        lines += [folder, f"    {known}"]
    return lines


def short(text):
    """A text with its hashes cut to twelve digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1…", str(text))


def title(document):
    label = document.name.replace("table", "Table ").replace("fig", "Figure ")
    return f"{label[0].upper()}{label[1:]}. {document.caption}"


def as_markdown(document, paper_only=False):
    footnotes, parts = Footnotes(), [f"## {title(document)}"]
    for block in document.blocks:
        headers, rows = grid(block, footnotes, paper_only, strong="**{}**".format)
        rows = [[cell.replace("|", r"\|") for cell in row] for row in rows]
        parts.append(
            f"### {block.title}\n\n"
            + tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1))
        )
    notes = notes_of(document, footnotes)
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def latex_text(text):
    return "".join(LATEX.get(c, c) for c in text)


def as_latex(document, paper_only=False):
    """Tables that fit a page, for the packages booktabs and graphicx: as many blocks in one as a page has lines for.

    A table that is wider than the text is made smaller; the best of ours in a column is bold.
    """
    footnotes, tables, count = Footnotes(), [], LATEX_LINES
    for block in document.blocks:
        headers, rows = grid(block, footnotes, paper_only, strong="\0{}".format)
        lines = [rf"\multicolumn{{{len(headers)}}}{{l}}{{\textbf{{{latex_text(block.title)}}}}} \\"]
        lines += [" & ".join(map(latex_cell, row)) + r" \\" for row in [headers, *rows]]
        if count + len(lines) > LATEX_LINES:
            tables.append([])
            count = 0
        tables[-1].append((len(headers) - 1, lines))
        count += len(lines)
    notes = [rf"\par\footnotesize {latex_text(note)}" for note in notes_of(document, footnotes)]
    room = count + sum(1 + len(note) // 90 for note in notes) <= LATEX_LINES  # for the notes below the last table
    parts = [r"% packages: booktabs, graphicx"]
    for number, blocks in enumerate(tables):
        caption = latex_text(document.caption) + " (continued)" * (number > 0)
        parts += [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
        parts += [rf"\label{{tab:{document.name}}}"] * (number == 0)
        parts.append(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%")
        parts += [rf"\begin{{tabular}}{{l{'r' * max(width for width, _ in blocks)}}}", r"\toprule"]
        for i, (_, lines) in enumerate(blocks):
            parts += [r"\midrule"] * (i > 0) + lines
        parts += [r"\bottomrule", r"\end{tabular}}", *(notes if room and number == len(tables) - 1 else ()), r"\end{table}"]
    parts += [] if room else ["{" + "\n".join(notes), r"\par}"]
    return "\n".join(parts) + "\n"


def latex_cell(text):
    """A cell's text; one with a NUL in front is bold."""
    return rf"\textbf{{{latex_text(text[1:])}}}" if text.startswith("\0") else latex_text(text)


def as_csv(document, paper_only=False):
    """One line a number: table, dataset, row, column, ours, std, seeds, paper, difference, notes."""
    rows = [["table", "dataset", "row", "column", "ours", "std", "seeds", "paper", "difference", "notes", "marks", "runs"]]
    for block in document.blocks:
        for name, cells in block.rows:
            for column, cell in zip(block.columns, cells):
                rows.append([
                    document.name, block.title, name, column, cell.ours, cell.std, cell.seeds, cell.paper, cell.difference,
                    "; ".join(cell.notes), "; ".join(cell.marks), "; ".join(s.folder for s in cell.sources if s.counted),
                ])  # fmt: skip
    return spreadsheet.as_csv(rows)


def as_json(document, paper_only=False):
    blocks = []
    for block in document.blocks:
        rows = {}
        for name, cells in block.rows:
            rows[name] = {column: json_cell(cell, paper_only) for column, cell in zip(block.columns, cells)}
        blocks.append({"dataset": block.title, "rows": rows})
    sources = document.sources.items()
    runs = {folder: {**provenance(source), "departures": [list(d) for d in source.departures]} for folder, source in sources}
    content = {"name": document.name, "caption": document.caption, "notes": list(document.notes), "blocks": blocks}
    if not paper_only:
        content["runs"] = runs
        content["missing"] = [
            {"row": item.row, "runs": [run.label for run in item.runs], "command": item.command} for item in document.missing
        ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def json_cell(cell, paper_only):
    content = {} if paper_only else {"ours": cell.ours, "std": cell.std, "seeds": cell.seeds, "difference": cell.difference}
    if not paper_only:
        content["runs"] = [s.folder for s in cell.sources if s.counted]
        content.update({"marks": list(cell.marks)} if cell.marks else {})
    return {**content, "paper": cell.paper, **({"notes": list(cell.notes)} if cell.notes else {})}


def render(document, kind, paper_only=False, colour=False, runs=False):
    """`document` as one of FORMATS; colour, and a list of the runs behind its numbers, only in text."""
    if kind == "text":
        listed = "\n".join(["", "The runs behind these numbers:", *runs_lines(document), ""]) if runs else ""
        return as_text(document, paper_only, colour) + listed
    return {"markdown": as_markdown, "latex": as_latex, "csv": as_csv, "json": as_json}[kind](document, paper_only)
