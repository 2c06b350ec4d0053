"""The registry of evaluators."""

from ..utils import Registry, UserError

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg, **kwargs):
    """Return the evaluator named by ``cfg.TEST.EVALUATOR``; with DATASET.MULTI_LABEL that of several labels is the default."""
    name = cfg.TEST.EVALUATOR
    if cfg.DATASET.MULTI_LABEL and name == "Classification":
        name = "MultiLabel"
    if name == "MultiLabel" and not cfg.DATASET.MULTI_LABEL:
        raise UserError(
            "TEST.EVALUATOR MultiLabel is for images with several labels: set DATASET.MULTI_LABEL True, or another evaluator"
        )
    evaluator = EVALUATOR_REGISTRY.get(name)
    if cfg.VERBOSE:
        print(f"Loading evaluator: {name}")
    return evaluator(cfg, **kwargs)
