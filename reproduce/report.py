"""`python -m reproduce report`: one self-contained HTML page with every table and figure that exists."""

import base64
import dataclasses
from html import escape
from pathlib import Path

from basics import UserError, write_text
from reproduce import facts, router_use
from reproduce.behind import Behind
from reproduce.experiments import EXPERIMENTS, RECIPES, Selection, rows_of
from reproduce.render import Footnotes, ours_text, paper_text, title
from reproduce.single import output_folder

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #bbb } h3 { margin: 1.2rem 0 .3rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .2rem 0 .8rem }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
thead th { border-bottom: 1px solid #888 } .scroll { overflow-x: auto }
.paper { color: #666 } .up { color: #0a7a2f } .down { color: #b3261e } .note, .missing { color: #555; font-size: .9em }
.run th { text-align: left; vertical-align: top; font-weight: normal; color: #555 }
.run td { text-align: left; white-space: normal }
td a { color: inherit; text-decoration: none } td a:hover { text-decoration: underline }
img { max-width: 100%; height: auto } nav a { margin-right: 1rem } code { background: #f2f2f2; padding: 0 .2em }
"""


def add_arguments(commands):
    """Add `report` to the sub-commands of the command line."""
    parser = commands.add_parser(
        "report",
        help="one HTML page with all tables and figures that exist",
        epilog="Environment variable: OUT (<project>/output).",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <OUT>/report.html")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help="default: %(default)s")
    parser.add_settings("runs that were made with this setting")


def selections(seeds, recipe, opts, out):
    """Selections of which something is finished, each of the datasets that have something."""
    for listed in EXPERIMENTS.values():
        for experiment, datasets in listed.candidates():
            whole = Selection(experiment, datasets, rows_of(experiment, recipe), tuple(seeds), recipe, opts)
            there = tuple(d for d in datasets if experiment.has_result(whole, d, out))
            if there and there != (experiment.source,):
                yield dataclasses.replace(whole, datasets=there)


def table_html(block, footnotes, behind):
    """A block as an HTML table, whose numbers lead to the runs behind them."""
    printed = [any(cells[i].paper is not None for _, cells in block.rows) for i in range(len(block.columns))]
    head, body = "<th></th>", ""
    for column, has_paper in zip(block.columns, printed):
        head += f"<th>{escape(column)}</th>" + ('<th class="paper">paper</th><th>diff</th>' if has_paper else "")
    for name, cells in block.rows:
        body += f"<tr><td>{escape(name)}</td>"
        for column, cell, has_paper in zip(block.columns, cells, printed):
            number = behind.number(ours_text(cell, footnotes), cell, f"{block.title}, {name}, {column}")
            body += f"<td>{number}</td>"
            if has_paper:
                side = "" if cell.difference is None else "up" if cell.difference >= 0 else "down"
                text = "-" if cell.difference is None else f"{cell.difference:+.2f}"
                body += f'<td class="paper">{escape(paper_text(cell, footnotes))}</td><td class="{side}">{text}</td>'
        body += "</tr>\n"
    return (
        f'<h3>{escape(block.title)}</h3><div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def picture_html(picture):
    """A picture inside the page. Vector drawings stand in an <img>, where nothing in them can run."""
    mime = {"svg": "image/svg+xml", "png": "image/png"}[picture.kind]
    content = base64.b64encode(picture.content).decode()
    lines = "".join(f"<li>{escape(line)}</li>\n" for line in picture.lines)
    return f'<img alt="{escape(picture.about)}" src="data:{mime};base64,{content}">\n' + (f"<ul>{lines}</ul>" if lines else "")


def router_html(rows):
    """What the routers did, as an HTML table; nothing where there is no router."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in router_use.COLUMNS)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>\n" for name, values in rows
    )
    return (
        "<details><summary>What the router did: entropy in per cent of the maximum; the experts chosen together for most "
        f'images, and for how many</summary><div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div></details>\n"
    )


def section(selection, document, out, anchor, behind):
    """HTML of one table or figure."""
    footnotes = Footnotes()
    parts = [f'<section id="{anchor}"><h2>{escape(heading(selection, document))}</h2>']
    parts += map(picture_html, selection.experiment.illustrations(selection, document, out))
    parts += [table_html(block, footnotes, behind) for block in document.blocks]
    parts += [behind.cells(), router_html(router_use.rows(selection, out))]
    notes = [f"[{mark}] {text}" for mark, text in footnotes.lines()] + [f"{text}." for text in document.notes]
    parts += [f'<p class="note">{escape(note)}</p>' for note in notes]
    if document.missing:
        lines = "".join(
            f"<li>{escape(item.row)}: {len(item.runs)} runs, <code>{escape(item.command)}</code></li>"
            for item in document.missing
        )
        parts.append(f'<details class="missing"><summary>Not finished yet</summary><ul>{lines}</ul></details>')
    return "\n".join(parts) + "</section>\n"


def heading(selection, document):
    return title(document) + (f", trained on {selection.experiment.source}" if selection.experiment.source else "")


def page(seeds, recipe, pairs, out, folder=None):
    """The whole page; UserError if nothing is finished. pairs: settings [KEY, VALUE] of all runs; folder: where it will lie."""
    from reproduce.tables import command_for

    chosen = list(selections(seeds, recipe, tuple(word for pair in pairs for word in pair), out))
    if not chosen:
        raise UserError(f"nothing to report: no finished run of a table or figure in {out}")
    links, sections, behind = [], [], Behind(folder or out)
    for number, selection in enumerate(chosen):
        document = selection.document(out, command_for(pairs, selection))
        links.append(
            f'<a href="#s{number}">{escape(heading(selection, document).split(". ")[0])}'
            f"{' (built-in)' if any(map(facts.is_builtin, selection.datasets)) else ''}</a>"
        )
        sections.append(section(selection, document, out, f"s{number}", behind))
    about = (
        f"Accuracy in per cent, mean ± standard deviation over seeds {', '.join(map(str, seeds))}; (1/3): one of "
        f"three runs is finished. H: harmonic mean of the two means. MoCoOp's recipe: {recipe}. Numbers of the "
        "built-in benchmark say nothing about the paper's."
    )
    about += "".join(f" All runs with {key} {value}." for key, value in pairs)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Reproduction report</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>Reproduction report</h1><p>{escape(about)}</p>"
        f"<nav>{''.join(links)}</nav>\n{''.join(sections)}{behind.runs()}</body></html>\n"
    )


def main(args):
    out = output_folder()
    file = args.out or out / "report.html"
    text = page(args.seeds, args.recipe, args.pairs, out, file.parent)
    write_text(text, file)
    print(f"written: {file}")
    return 0
