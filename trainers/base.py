"""PromptTrainer under the name that it had before ``learning/``: method files that import it from here go on working."""

from learning import PromptTrainer

__all__ = ["PromptTrainer"]
