"""Curves of documents as pictures fit to print."""

from pathlib import Path

from basics import atomic_write

PICTURES = ("pdf", "png", "svg")
STYLES = (("tab:grey", "s", "--"), ("tab:blue", "o", "-"), ("tab:green", "^", "-"), ("tab:red", "*", "-"),
          ("tab:purple", "D", "-"), ("tab:brown", "v", "-"))  # fmt: skip
PRINT = {"font.size": 8, "axes.titlesize": 9, "legend.fontsize": 8, "pdf.fonttype": 42, "svg.fonttype": "path",
         "axes.grid": True, "grid.alpha": 0.3, "lines.linewidth": 1.2, "lines.markersize": 4}  # fmt: skip


def draw(selection, document, panels, out, file=None):
    """Draw the panels of a figure into `file`, or as PDF and PNG into <out>/figures; returns the files, none without results."""
    name = selection.experiment.name
    names = "-".join(selection.datasets) if set(selection.datasets) != set(selection.experiment.datasets) else ""
    stem = "-".join(filter(None, (name, names, selection.recipe if selection.recipe != "paper" else "")))
    if not any(cell.ours is not None for block in document.blocks for _, cells in block.rows for cell in cells):
        return []
    files = [file] if file else [Path(out) / "figures" / f"{stem}.{kind}" for kind in ("pdf", "png")]
    for target in files:
        content = picture(panels, target.suffix[1:])
        with atomic_write(target) as stream:
            stream.write(content)
    return files


def picture(panels, kind):
    """Bytes of a picture. panels: (Block, symbol of the weight that its rows sweep, or "" for curves over shots)."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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
