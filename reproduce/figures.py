"""Figures 3 and 4 as pictures fit to print; Figure 5's are drawn by `reproduce.route`."""

import shutil
from pathlib import Path

from basics import UserError, atomic_write
from reproduce.experiments import Selection
from reproduce.routing_job import Routing

DRAWN = ("fig3", "fig4", "fig5")
PICTURES = ("pdf", "png", "svg")
STYLES = (("tab:grey", "s", "--"), ("tab:blue", "o", "-"), ("tab:green", "^", "-"), ("tab:red", "*", "-"),
          ("tab:purple", "D", "-"), ("tab:brown", "v", "-"))  # fmt: skip
PRINT = {"font.size": 8, "axes.titlesize": 9, "legend.fontsize": 8, "pdf.fonttype": 42, "svg.fonttype": "path",
         "axes.grid": True, "grid.alpha": 0.3, "lines.linewidth": 1.2, "lines.markersize": 4}  # fmt: skip


def draw(selection: Selection, document, out, file=None):
    """Draw a figure into `file`, or as PDF and PNG into <out>/figures; returns the files, none without results."""
    name = selection.experiment.name
    names = "-".join(selection.datasets) if set(selection.datasets) != set(selection.experiment.datasets) else ""
    stem = "-".join(filter(None, (name, names, selection.recipe if selection.recipe != "paper" else "")))
    if name == "fig5":
        return copies(selection, out, file)
    if not any(cell.ours is not None for block in document.blocks for _, cells in block.rows for cell in cells):
        return []
    files = [file] if file else [Path(out) / "figures" / f"{stem}.{kind}" for kind in ("pdf", "png")]
    for target in files:
        content = picture(document, target.suffix[1:])
        with atomic_write(target) as stream:
            stream.write(content)
    return files


def copies(selection, out, file):
    """Figure 5: the pictures that `reproduce.route` has drawn, one a dataset."""
    found = []
    for row in selection.rows:
        for dataset in selection.datasets:
            routing = Routing(selection.run("base2new_train", row, dataset, selection.seeds[0]))
            if routing.result(out) is not None:
                found += sorted(routing.directory(out).glob("routing.p*"))
    if file is None or not found:
        return found
    if len(selection.datasets) > 1 or file.suffix not in (".png", ".pdf"):
        raise UserError(f"--out {file}: Figure 5 is one .png or .pdf for each dataset; name one dataset")
    shutil.copyfile(next(f for f in found if f.suffix == file.suffix), file)
    return [file]


def picture(document, kind):
    """Bytes of the picture of a document of Figure 3 or 4: a panel a block, in the order of the blocks."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = []
    for block in document.blocks:
        panels += [(block, symbol) for symbol in ("λ1", "λ2")] if document.name == "fig4" else [(block, "")]
    panels = [p for p in panels if p[1] == "" or any(name.startswith(p[1]) for name, _ in p[0].rows)]
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    with matplotlib.rc_context(PRINT):
        width = max(3.4, 1.8 * columns)  # inches: a printed column, or the page
        fig = Figure(figsize=(width, 1.9 * lines + 0.5), layout="constrained")
        FigureCanvasAgg(fig)
        axes = fig.subplots(lines, columns, squeeze=False).flat
        for ax, (block, symbol) in zip(axes, panels):
            draw_sweep(ax, block, symbol) if symbol else draw_shots(ax, block)
        for ax in list(axes)[len(panels) :]:
            ax.axis("off")
        handles = {label: h for ax in fig.axes for h, label in zip(*ax.get_legend_handles_labels())}
        fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        stream = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        fig.savefig(stream, format=kind, dpi=300, metadata=metadata)
    return stream.getvalue()


def curve(ax, xs, cells, label, style):
    """Means with bars of one standard deviation; points without a value are left out."""
    colour, marker, line = style
    points = [(x, c.ours, c.std or 0) for x, c in zip(xs, cells) if c.ours is not None]
    if points:
        x, y, spread = zip(*points)
        ax.errorbar(x, y, yerr=spread, color=colour, marker=marker, linestyle=line, label=label, capsize=1.5, elinewidth=0.7)


def draw_shots(ax, block):
    shots = [int(column) for column in block.columns]
    for (name, cells), style in zip(block.rows, STYLES * len(block.rows)):
        curve(ax, shots, cells, name, style)
    ax.set_xticks(shots)
    ax.set_title(block.title)
    ax.set_xlabel("labelled images a class")
    ax.set_ylabel("accuracy (%)")


def draw_sweep(ax, block, symbol):
    """Accuracy on base and new classes and H against a loss weight, at even distances."""
    rows = [(name.split(" = ")[1], cells) for name, cells in block.rows if name.startswith(symbol)]
    for i, (label, style) in enumerate(zip(("base", "new", "H"), STYLES[1:])):
        curve(ax, range(len(rows)), [cells[i] for _, cells in rows], label, style)
    ax.set_xticks(range(len(rows)), [value for value, _ in rows])
    ax.set_title(block.title)
    ax.set_xlabel(symbol)
    ax.set_ylabel("%")
