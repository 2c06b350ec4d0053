"""`python -m reproduce calibration RUN …`: confidence and accuracy of finished runs, as a table and as a picture."""

import os

from tabulate import tabulate

from basics import UserError, atomic_write
from reproduce.figures import PICTURES, PRINT
from reproduce.runs import read_result

LARGEST = 100  # panels of a picture


def add_arguments(commands):
    """Add `calibration` to the sub-commands of the command line."""
    command = commands.add_parser("calibration", help="calibration of finished runs: table and reliability diagrams")
    command.add_argument("runs", nargs="+", metavar="RUN", help="folder of a finished run")
    command.add_argument("--out", metavar="FILE", help="also draw the reliability diagrams (.pdf, .png, .svg)")


def read(folder):
    """(results.json, bins of its `calibration`) of a finished run; UserError where it has none."""
    result = read_result(folder)
    if result is None:
        raise UserError(f"{folder} is no finished run: it has no results.json that can be read")
    bins = result.get("calibration")
    if not is_whole(bins):
        raise UserError(
            f"{folder}: its results.json says nothing of calibration: it is of an earlier version, or of a trainer whose scores "
            "needn't be logits; evaluate the run again with --eval-only into another folder"
        )
    return result, bins


def is_whole(bins):
    """Whether bins have the entries that they are read for, as numbers."""
    names = ("above", "to", "images", "confidence", "accuracy")
    return (
        isinstance(bins, list)
        and bool(bins)
        and all(isinstance(found, dict) for found in bins)
        and all(type(found.get(name)) in (int, float) and found[name] >= 0 for found in bins for name in names)
        and sum(found["images"] for found in bins) > 0
    )


def row(folder, bins):
    """[run, images, accuracy, mean confidence, their difference, expected calibration error], in per cent."""
    total = sum(found["images"] for found in bins)
    mean = {name: 100 * sum(b["images"] * b[name] for b in bins) / total for name in ("accuracy", "confidence")}
    error = 100 * sum(b["images"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / total
    return [folder, total, mean["accuracy"], mean["confidence"], mean["confidence"] - mean["accuracy"], error]


def main(args):
    """Print the table, and draw the picture where one is asked for."""
    if args.out and os.path.splitext(args.out)[1][1:].lower() not in PICTURES:
        raise UserError(f"--out {args.out}: unknown picture format; choose one of .{', .'.join(PICTURES)}")
    found = [(folder, *read(folder)) for folder in args.runs]
    headers = ["run", "images", "accuracy", "confidence", "difference", "ECE"]
    print(tabulate([row(folder, bins) for folder, _, bins in found], headers, floatfmt=("", ".0f", ".2f", ".2f", "+.2f", ".2f")))
    if args.out:
        if len(found) > LARGEST:
            raise UserError(f"a picture shows at most {LARGEST} runs, not {len(found)}")
        with atomic_write(args.out) as stream:
            stream.write(picture(found, os.path.splitext(args.out)[1][1:].lower()))
        print(f"Reliability diagrams: {args.out}")


def picture(found, kind):
    """Bytes of reliability diagrams: a panel a run, bars of accuracy by confidence, the share of images below."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(found), 4)
    lines = -(-len(found) // columns)
    with matplotlib.rc_context(PRINT):
        figure = Figure(figsize=(1.9 * columns + 0.4, 2.2 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for ax, (folder, result, bins) in zip(axes, found):
            draw(ax, result, bins, row(folder, bins)[-1])
        for ax in axes[len(found) :]:
            ax.axis("off")
        stream = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(stream, format=kind, dpi=300, metadata=metadata)
    return stream.getvalue()


def draw(ax, result, bins, error):
    """One diagram: accuracy of each bin, the line on which it equals the confidence, and the bins' shares of images."""
    total = sum(found["images"] for found in bins)
    for found in bins:
        middle, width = 50 * (found["above"] + found["to"]), 100 * (found["to"] - found["above"])
        ax.bar(middle, 100 * found["accuracy"], width, color="tab:blue", edgecolor="white", linewidth=0.5)
        ax.bar(middle, -12 * found["images"] / total, width, color="tab:grey")
    ax.plot((0, 100), (0, 100), color="black", linestyle=":")
    ax.set_xlim(0, 100)
    ax.set_ylim(-12, 100)
    ax.set_yticks((0, 25, 50, 75, 100))
    names = [str(result.get(name, "")) for name in ("trainer", "dataset", "subsample_classes")]
    ax.set_title(f"{' '.join(filter(None, names))}\nECE {error:.1f}".replace("$", r"\$"))
    ax.set_xlabel("confidence (%)")
    ax.set_ylabel("accuracy (%)")
