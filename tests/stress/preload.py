"""What the fork server imports once, so that no run has to."""

import open_clip  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

import datasets  # noqa: F401
import train  # noqa: F401
import trainers  # noqa: F401
from prompting.tokens import encode

encode("warm")  # reads the vocabulary
