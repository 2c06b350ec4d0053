"""`python -m reproduce report`: one self-contained HTML page with every table and figure that exists."""

import base64
import dataclasses
from html import escape
from pathlib import Path

from basics import UserError, home, write_text
from reproduce import facts, router_use
from reproduce.behind import Behind
from reproduce.experiments import EXPERIMENTS, Selection, rows_of
from reproduce.render import Footnotes, ours_text, paper_text, title
from reproduce.single import output_folder
from reproduce.tables import add_settings, cfgs_of, command_for, settings_of

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #bbb } h3 { margin: 1.2rem 0 .3rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .2rem 0 .8rem }
caption { text-align: left; font-weight: bold; padding: 1rem 0 .2rem }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap }
th[scope=row], th:first-child { text-align: left; font-weight: normal }
thead th { border-bottom: 1px solid #888 } .scroll { overflow-x: auto }
.paper { color: #595959 } .up { color: #0a7a2f } .down { color: #b3261e } .note, .missing { color: #555; font-size: .9em }
.run th { vertical-align: top; color: #555 }
.run td { text-align: left; white-space: normal; overflow-wrap: anywhere }
td a { color: inherit; text-decoration: none } td a:hover { text-decoration: underline }
img { max-width: 100%; height: auto } nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem }
code, pre { background: #f2f2f2; padding: 0 .2em; overflow-wrap: anywhere; white-space: pre-wrap }
@media (max-width: 40rem) {
  body { margin: 1rem auto; padding: 0 .7rem; font-size: 14px } th, td { padding: .15rem .4rem } h1 { font-size: 1.5rem }
  .scroll th[scope=row] { position: sticky; left: 0; background: #fff; max-width: 8rem; white-space: normal }
}
@media print { section { break-before: page } img { max-height: 95vh } tr, img { break-inside: avoid } nav { display: none } }
"""


def add_arguments(commands):
    """Add `report` to the sub-commands of the command line."""
    parser = commands.add_parser(
        "report",
        help="one HTML page with all tables and figures that exist",
        epilog=f"Environment variable: OUT (default: output in {home.OWN}).",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <OUT>/report.html")
    add_settings(parser)


def selections(args, out):
    """Selections of which something is finished, each of the datasets that have something. args: of the command line."""
    settings = tuple(args.seeds), args.recipe, settings_of(args), cfgs_of(args)
    for listed in EXPERIMENTS.values():
        for experiment, datasets in listed.candidates():
            whole = Selection(experiment, datasets, rows_of(experiment, args.recipe), *settings)
            there = tuple(d for d in datasets if experiment.has_result(whole, d, out))
            if there and there != (experiment.source,):
                yield dataclasses.replace(whole, datasets=there)


def table_html(block, footnotes, behind):
    """A block as an HTML table, whose numbers lead to the runs behind them; the best of a column is bold."""
    printed = [any(cells[i].paper is not None for _, cells in block.rows) for i in range(len(block.columns))]
    head, body, best = "<td></td>", "", block.best()
    for column, has_paper in zip(block.columns, printed):
        head += f'<th scope="col">{escape(column)}</th>'
        head += '<th scope="col" class="paper">paper</th><th scope="col">diff</th>' if has_paper else ""
    for r, (name, cells) in enumerate(block.rows):
        body += f'<tr><th scope="row">{escape(name)}</th>'
        for c, (column, cell, has_paper) in enumerate(zip(block.columns, cells, printed)):
            number = behind.number(ours_text(cell, footnotes), cell, f"{block.title}, {name}, {column}")
            body += f"<td><b>{number}</b></td>" if (r, c) in best else f"<td>{number}</td>"
            if has_paper:
                side = "" if cell.difference is None else "up" if cell.difference >= 0 else "down"
                text = "-" if cell.difference is None else f"{cell.difference:+.2f}"
                body += f'<td class="paper">{escape(paper_text(cell, footnotes))}</td><td class="{side}">{text}</td>'
        body += "</tr>\n"
    return (
        f'<div class="scroll"><table><caption>{escape(block.title)}</caption><thead><tr>{head}</tr></thead>\n'
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
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in router_use.COLUMNS)
    line = lambda values: "".join(f"<td>{escape(value)}</td>" for value in values)  # noqa: E731
    body = "".join(f'<tr><th scope="row">{escape(name)}</th>{line(values)}</tr>\n' for name, values in rows)
    return (
        "<details><summary>What the router did: entropy in per cent of the maximum; the experts chosen together for most "
        'images, and for how many</summary><div class="scroll"><table><caption>Router</caption>'
        f"<thead><tr><td></td>{head}</tr></thead>\n"
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


def page(args, out, folder=None):
    """The whole page; UserError if nothing is finished. args: of the command line; folder: where the page will lie."""
    chosen = list(selections(args, out))
    if not chosen:
        raise UserError(f"nothing to report: no finished run of a table or figure in {out}")
    links, sections, behind = [], [], Behind(folder or out)
    for number, selection in enumerate(chosen):
        document = selection.document(out, command_for(selection))
        links.append(
            f'<a href="#s{number}">{escape(heading(selection, document).split(". ")[0])}'
            f"{' (built-in)' if any(map(facts.is_builtin, selection.datasets)) else ''}</a>"
        )
        sections.append(section(selection, document, out, f"s{number}", behind))
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in (about(args), *behind.about()))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Reproduction report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>Reproduction report</h1>{paragraphs}<nav>{''.join(links)}</nav>\n"
        f"{''.join(sections)}{behind.runs()}</body></html>\n"
    )


def about(args):
    """What the numbers of the page are, in words."""
    seeds = list(map(str, dict.fromkeys(args.seeds)))
    spread = f"; (1/{len(seeds)}): one of {len(seeds)} runs is finished" if len(seeds) > 1 else ""
    of = f"mean ± standard deviation over seeds {', '.join(seeds)}" if spread else f"of seed {seeds[0]}"
    text = (
        f"Accuracy in per cent, {of}{spread}. H: harmonic mean of the two means. Bold: the best of our numbers in a column. "
        f"MoCoOp's recipe: {args.recipe}. Numbers of the built-in benchmark say nothing about the paper's."
    )
    opts = settings_of(args)
    text += "".join(f" All runs with {key} {value}." for key, value in zip(opts[::2], opts[1::2]))
    return text + "".join(f" {method or 'All methods'} with {file}.yaml." for method, file in cfgs_of(args))


def main(args):
    out = output_folder()
    file = args.out or out / "report.html"
    write_text(page(args, out, file.parent), file)
    print(f"written: {file}")
    return 0
