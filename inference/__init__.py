"""A finished run as an object: its settings and class names, its predictions, and pictures of them."""

from .drawing import picture
from .predictor import Predictor, as_text, routing
from .run import configuration, read_run, without_images

__all__ = ["Predictor", "as_text", "configuration", "picture", "read_run", "routing", "without_images"]
