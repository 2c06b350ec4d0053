"""The registry of trainers."""

from ..config import check
from ..utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg):
    """Return the trainer named by ``cfg.TRAINER.NAME``. UserError when a value of the configuration is not allowed."""
    check(cfg)
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return trainer(cfg)
