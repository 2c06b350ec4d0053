"""What methods share while they learn: the training step, text side, image side, kept features, several processes, keys."""

from .image_side import ImageLearning
from .trainer import PromptTrainer

__all__ = ["ImageLearning", "PromptTrainer"]
