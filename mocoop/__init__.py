"""Prompt learning for CLIP: MoCoOp, CoOp and their family, as functions and as commands.

    import mocoop
    run = mocoop.train("MoCoOp", "letters", seed=1)         # as scripts/base2new_train.sh: resumed, reused or refused alike
    print(run.accuracy, mocoop.evaluate(run).accuracy)      # base classes, new classes
    model = mocoop.load(run)                                # or the folder of any finished run
    print(model.predict(["photo.jpg", pil_image, array, tensor]))

docs/python.md says the rest. Nothing heavy is imported before it is needed.
"""

from basics import UserError

from .model import Model, load
from .runs import Run, evaluate, train

__all__ = ["Model", "Run", "UserError", "evaluate", "load", "train"]
