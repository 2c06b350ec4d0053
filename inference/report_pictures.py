"""Pictures of an evaluation: the confusion of classes, and contact sheets of mistakes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .drawing import plain, save

WITH_NUMBERS = 30  # classes; with more there is no room for counts in the cells
ACROSS, DOWN, MOST_SHEETS = 6, 8, 10


def draw_confusion(counts: Any, classnames: Sequence[str], file: str) -> None:
    """Draw [C, C] counts as shares of their row, the true class; with up to 30 classes the counts stand in the cells."""
    import numpy as np
    from matplotlib.figure import Figure

    n = len(classnames)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = 0.36 if n <= WITH_NUMBERS else max(0.12, 12 / n)
    size = min(3 + cell * n, 60)  # inches
    fig = Figure(figsize=(size + 0.6, size), dpi=120, layout="constrained")
    ax = fig.subplots()
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [plain(name) for name in classnames]
    ax.set_xticks(range(n), names, rotation=90, fontsize=min(8, 60 * cell))
    ax.set_yticks(range(n), names, fontsize=min(8, 60 * cell))
    ax.set_xlabel("predicted")
    ax.set_ylabel("truth")
    if n <= WITH_NUMBERS:
        for row, column in zip(*np.nonzero(counts)):
            colour = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    fig.colorbar(image, ax=ax, shrink=0.6, label="share of the true class's images")
    save(fig, file)


def draw_sheets(mistakes: list[dict[str, Any]], folder: str, upright: bool) -> list[str]:
    """Contact sheets ``mistakes-1.png`` …, 48 images each, those with the most confident mistakes first; ten sheets at most.

    Returns:
        Their names.
    """
    from matplotlib.figure import Figure

    from dassl.utils import read_image

    per_sheet, names = ACROSS * DOWN, []
    for start in range(0, min(len(mistakes), MOST_SHEETS * per_sheet), per_sheet):
        shown = mistakes[start : start + per_sheet]
        rows = -(-len(shown) // ACROSS)
        height = 2.5 * rows + 0.7  # inches
        fig = Figure(figsize=(2.0 * ACROSS, height), dpi=100)
        axes = fig.subplots(rows, ACROSS, squeeze=False)
        fig.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.8 / height, wspace=0.04, hspace=0.3)
        for ax in axes.flat:
            ax.axis("off")
        for ax, mistake in zip(axes.flat, shown):
            thumbnail = read_image(mistake["image"], upright)
            thumbnail.thumbnail((220, 220))
            ax.imshow(thumbnail)
            first = mistake["classes"][0]
            lines = (
                Path(mistake["image"]).name,
                f"is {mistake['truth']}",
                f"taken for {first['name']}, {first['probability']:.0%}",
            )
            ax.set_title("\n".join(plain(_short(line)) for line in lines), fontsize=7)
        last = start + len(shown)
        fig.suptitle(f"Mistakes {start + 1} to {last} of {len(mistakes)}, the surest first", fontsize=9)
        names.append(f"mistakes-{start // per_sheet + 1}.png")
        save(fig, os.path.join(folder, names[-1]))
    return names


def _short(line, most=34):
    return line if len(line) <= most else line[: most - 1] + "…"
