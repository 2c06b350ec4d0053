"""Tables as CSV that a spreadsheet shows as text, whatever names of files and classes begin with."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection"


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """CSV text of rows; None is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, as spreadsheets themselves mark a text.
    Numbers stay as they are.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(_STARTS_A_FORMULA) else cell for cell in row])
    return stream.getvalue()
