"""Predictions as files: CSV, JSON, JSON Lines, and a folder that says how right they are."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basics import UserError, mkdir_if_missing, spreadsheet, write_json, write_text

from .report_pictures import draw_confusion, draw_sheets
from .scoring import Scores

ENDINGS = (".csv", ".json", ".jsonl")
REPORT = ("scores.json", "per_class.csv", "confusion.csv", "confusion.png", "mistakes.csv")


def check_output(file: str) -> None:
    """UserError unless a file's ending says how predictions are to be written."""
    if Path(file).suffix.lower() not in ENDINGS:
        raise UserError(f"--output {file}: its ending says how it is written; choose one of {', '.join(ENDINGS)}")


def write_predictions(
    predictions: list[dict[str, Any]], unreadable: list[tuple[str, str]], about: dict[str, Any], file: str, ending: str = ""
) -> None:
    """Write predictions in the form that the file's ending (or ``ending``, where it is given) names.

    Args:
        predictions: of ``Predictor``; where it is known with ``truth``, a class, and ``correct``.
        unreadable: (path, message) of images that couldn't be read.
        about: what JSON says of the run beside them.
        file: .csv: a row an image; .jsonl: an object a line; .json: one object with ``images`` and ``unreadable``.
    """
    suffix = ending or Path(file).suffix.lower()
    failed = [{"image": path, "error": message} for path, message in unreadable]
    if suffix == ".csv":
        write_text(spreadsheet.as_csv(_rows(predictions, unreadable)), file)
    elif suffix == ".jsonl":
        write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (*predictions, *failed)), file)
    else:
        write_json({**about, "images": predictions, **({"unreadable": failed} if failed else {})}, file)


def _rows(predictions: list[dict[str, Any]], unreadable: list[tuple[str, str]]) -> list[list[Any]]:
    """image, labels where there may be several, class, probability; truth and correct where some are known; the other classes;
    error where there are some."""
    most = max((len(p["classes"]) for p in predictions), default=1)
    judged = any("truth" in p for p in predictions)
    several = any("labels" in p for p in predictions)
    header = ["image", *(["labels"] if several else []), "class", "probability", *(["truth", "correct"] if judged else [])]
    header += [f"{what}_{n}" for n in range(2, most + 1) for what in ("class", "probability")]
    rows: list[list[Any]] = [header + ["error"] * bool(unreadable)]
    for p in predictions:
        first, *others = [[c["name"], round(c["probability"], 6)] for c in p["classes"]]
        truth = [p.get("truth"), {True: "yes", False: "no"}.get(p.get("correct"))] if judged else []  # type: ignore[arg-type]
        labels = ["; ".join(p["labels"])] if several else []
        rows.append([p["image"], *labels, *first, *truth, *sum(others, []), *([None] if unreadable else [])])
    rows += [[path, *[None] * (len(header) - 1), message] for path, message in unreadable]
    return rows


def write_report(
    predictions: list[dict[str, Any]], scores: Scores, about: dict[str, Any], folder: str, upright: bool
) -> list[str]:
    """Write what a folder of classes says of a run: REPORT, and contact sheets of the images that were taken for another class.

    Args:
        predictions: with ``truth`` and ``correct`` where the class is known.
        scores: of the same images.
        about: what scores.json says of the run beside them.
        folder: made where it doesn't exist.
        upright: turn images as their EXIF orientation says, as ``Predictor.upright`` has it.

    Returns:
        Names of the files.
    """
    mkdir_if_missing(folder)
    path = lambda name: os.path.join(folder, name)  # noqa: E731
    report, counts = scores.report(), scores.confusion()
    mistakes = [p for p in predictions if p.get("correct") is False]
    mistakes.sort(key=lambda p: -p["classes"][0]["probability"])
    write_json({**about, **report}, path("scores.json"))
    columns = list(report["per_class"][0])
    write_text(spreadsheet.as_csv([columns, *([c[k] for k in columns] for c in report["per_class"])]), path("per_class.csv"))
    named = [[name, *row] for name, row in zip(scores.classnames, counts.tolist())]
    write_text(spreadsheet.as_csv([["truth \\ predicted", *scores.classnames], *named]), path("confusion.csv"))
    draw_confusion(counts, scores.classnames, path("confusion.png"))
    write_text(spreadsheet.as_csv(_rows(mistakes, [])), path("mistakes.csv"))
    for old in Path(folder).glob("mistakes-*.png"):  # of an earlier report with more of them
        old.unlink()
    return [*REPORT, *draw_sheets(mistakes, folder, upright)]


def as_report_lines(files: Sequence[str], mistakes: int) -> str:
    """What was written, for a terminal."""
    sheets = [name for name in files if name.startswith("mistakes-")]
    return f"{', '.join(REPORT)}" + (f" and {len(sheets)} contact sheet(s) of {mistakes} mistake(s)" if sheets else "")
