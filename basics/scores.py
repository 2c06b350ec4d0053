"""The number by which a run is judged, whatever its task is."""

from collections.abc import Mapping
from typing import Any

MAIN = {"accuracy": "accuracy", "mAP": "mAP"}  # name in results.json: what people call it; the first one that is there counts


def main_score(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """("accuracy", per cent), or ("mAP", per cent) where images have several labels; None where there is neither."""
    return next(((word, metrics[name]) for name, word in MAIN.items() if name in metrics), None)
