"""Optimisers and learning-rate schedules."""

from .lr_scheduler import WarmupScheduler, build_lr_scheduler, learning_rates
from .optimizer import build_optimizer

__all__ = ["WarmupScheduler", "build_lr_scheduler", "build_optimizer", "learning_rates"]
