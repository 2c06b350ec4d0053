"""Predictions as a picture, in the manner of MoCoOp's Figure 5: images, their classes, the router's weights."""

import io
from pathlib import Path
from typing import Any

from basics import UserError, atomic_write

MOST_IMAGES, PAGE = 100, 8
HOW_TO_READ = (
    "An expert is a learned prompt that started from the hard template beside its bar. For each image the router\n"
    "weighs all experts (dotted: equal weights); the best (orange) are mixed, and compared with the image."
)


def picture(predictions: list[dict[str, Any]], file: str | Path, results: dict[str, Any], upright: bool = False) -> None:
    """Draw predictions, one row per image: the image, its likeliest classes, and the router's weight of every expert.

    Args:
        predictions: what ``Predictor`` or ``routing`` returns, 1 to 100 images; where it is known with ``truth``, a class.
        file: the picture; its ending says the format (.png, .pdf, .svg ...). A .pdf has pages of eight images.
        results: the run's results.json, for the title.
        upright: turn images as their EXIF orientation says, as ``Predictor.upright`` has it.

    Raises:
        UserError: too many images, an unknown format, a file that can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind, known = Path(file).suffix.lstrip(".").lower(), sorted(FigureCanvasAgg.filetypes)
    if kind not in known:
        raise UserError(f"{file}: unknown picture format; choose one of .{', .'.join(known)}")
    if len(predictions) > MOST_IMAGES:
        raise UserError(f"a picture shows at most {MOST_IMAGES} images, not {len(predictions)}")
    drawing = _Drawing(predictions, results, upright)
    if kind == "pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        stream = io.BytesIO()
        with PdfPages(stream) as pages:
            for start in range(0, len(predictions), PAGE):
                pages.savefig(drawing.page(predictions[start : start + PAGE]))
        with atomic_write(str(file)) as f:
            f.write(stream.getvalue())
    else:
        save(drawing.page(predictions), file, kind)


class _Drawing:
    """Figures that have their sizes and scales in common, whichever of the predictions they show."""

    def __init__(self, predictions, results, upright):
        self.routed, self.upright = "experts" in predictions[0], upright
        self.largest = max((e["weight"] for p in predictions for e in p.get("experts", ())), default=1.0)
        bars = max(len(p[key]) for p in predictions for key in ("classes", "experts") if key in p)
        self.height = max(2.2, 0.6 + 0.2 * bars)  # inches a row
        self.title = plain(_title(results)) + ("\n" + HOW_TO_READ if self.routed else "")

    def page(self, predictions):
        """A matplotlib figure of some predictions."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from dassl.utils import read_image

        widths = (1, 1.3, 2.2)[: 3 if self.routed else 2]
        size = (13 if self.routed else 7.5, self.height * len(predictions) + 0.9)
        fig = Figure(figsize=size, dpi=120, layout="constrained")
        FigureCanvasAgg(fig)
        axes = fig.subplots(len(predictions), len(widths), squeeze=False, width_ratios=widths)
        for (image_ax, class_ax, *router_ax), prediction in zip(axes, predictions):
            image_ax.imshow(read_image(prediction["image"], self.upright))
            truth = prediction.get("truth")
            name = Path(prediction["image"]).name + (f"\ntrue class: {truth}" if truth else "")
            image_ax.set_title(plain(name), fontsize=9)
            image_ax.axis("off")
            _draw_classes(class_ax, prediction["classes"], truth)
            if self.routed:
                _draw_experts(router_ax[0], prediction["experts"], self.largest)
        fig.suptitle(self.title, fontsize=10)
        return fig


def save(fig: Any, file: str | Path, kind: str = "png") -> None:
    """Write a matplotlib figure whole or not at all."""
    stream = io.BytesIO()
    fig.savefig(stream, format=kind)
    with atomic_write(str(file)) as f:
        f.write(stream.getvalue())


def _title(results):
    subset = {"base": ", base classes", "new": ", new classes"}.get(results.get("subsample_classes"), "")
    return f"{results['trainer']} on {results['dataset']}{subset} ({results['backbone']})"


def plain(text: str) -> str:
    """A text that matplotlib shows as it is."""
    return text.replace("$", r"\$")  # matplotlib would typeset a formula


def _bars(ax, labels, values, colours, notes, title, largest=1.0):
    """Horizontal bars from the top, each with its label at the left and a note at its end; values are shares of 1.

    ``largest``: the value up to which the axis is drawn, the same in every row of a picture.
    """
    from matplotlib.ticker import MaxNLocator

    rows = range(len(labels))
    ax.barh(rows, values, color=colours)
    ax.set_yticks(rows, [plain(label) for label in labels], fontsize=8)
    patch = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # keeps lines off the words
    for row, value, note in zip(rows, values, notes):
        ax.text(value + 0.01 * largest, row, note, va="center", fontsize=8, bbox=patch)
    ax.set_xlim(0, 1.4 * largest)  # room for the notes
    ticks = [t for t in MaxNLocator(4).tick_values(0, largest) if t <= largest]
    ax.set_xticks(ticks, [f"{100 * t:.3g} %" for t in ticks], fontsize=8)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, fontsize=9)


def _draw_classes(ax, classes, truth=None):
    values = [c["probability"] for c in classes]
    colours = ["tab:blue"] + ["lightsteelblue"] * (len(values) - 1)
    colours = ["tab:green" if c["name"] == truth else colour for c, colour in zip(classes, colours)]
    notes = [f"{100 * v:.1f} %" for v in values]
    title = "likeliest classes" + (", the true one in green" if truth else "")
    _bars(ax, [c["name"] for c in classes], values, colours, notes, title)


def _draw_experts(ax, experts, largest):
    chosen = [e["chosen"] for e in experts]
    labels = [f'{e["name"]}: "{e["template"]}"' for e in experts]
    notes = [f"{100 * e['weight']:.1f} %" + (f", {e['mixing']:.2f} of the mixture" if e["chosen"] else "") for e in experts]
    colours = ["tab:orange" if c else "lightgrey" for c in chosen]
    title = f"router's weight of each expert; the {sum(chosen)} in orange are mixed"
    _bars(ax, labels, [e["weight"] for e in experts], colours, notes, title, largest)
    ax.axvline(1 / len(experts), color="black", linestyle=":", linewidth=1)
    for label, picked in zip(ax.get_yticklabels(), chosen):
        label.set_fontweight("bold" if picked else "normal")
