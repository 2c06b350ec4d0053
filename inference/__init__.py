"""A finished run as an object: its settings and class names, its predictions, and pictures of them."""

from . import gathering, scoring, writing
from .drawing import picture
from .matrix import MatrixPredictor, read_matrix
from .predictor import Predictor, as_text, routing
from .run import configuration, read_run, without_images
from .saved import Saved, read_predictions

__all__ = [
    "MatrixPredictor",
    "Predictor",
    "Saved",
    "as_text",
    "configuration",
    "gathering",
    "picture",
    "read_matrix",
    "read_predictions",
    "read_run",
    "routing",
    "scoring",
    "without_images",
    "writing",
]
