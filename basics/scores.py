"""The number by which a run is judged, whatever its task is."""

from collections.abc import Mapping
from typing import Any

MAIN = ("accuracy", "mAP")  # names in results.json; the first one that is there counts


def main_score(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """("accuracy", per cent), or ("mAP", per cent) where images have several labels; None where there is neither."""
    return next(((name, metrics[name]) for name in MAIN if name in metrics), None)
