"""Evaluators: they collect predictions, then compute and print the result."""

from .build import EVALUATOR_REGISTRY, build_evaluator
from .evaluator import Classification, EvaluatorBase, check_finite
from .multi_label import MultiLabel
from .temperature import check_calibrated, validation_temperature

__all__ = [
    "EVALUATOR_REGISTRY",
    "Classification",
    "EvaluatorBase",
    "MultiLabel",
    "build_evaluator",
    "check_calibrated",
    "check_finite",
    "validation_temperature",
]
