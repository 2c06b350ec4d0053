"""Tip-Adapter's key-value cache: features of training images as keys, their classes as values."""

import torch
import torch.nn.functional as F
from torch import nn

from prompting import unit

from .class_rows import NamedClasses
from .support import FrozenFeatures


class Cache(nn.Module):
    """``keys`` [N, E] of N training images, their ``labels`` [N], and ``alpha`` and ``beta`` of the logits."""

    def __init__(self, num_keys, embed_dim, alpha, beta):
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(num_keys, embed_dim))
        self.register_buffer("labels", torch.zeros(num_keys, dtype=torch.long))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))

    def weigh(self, alpha, beta):
        """Set both weights, in place."""
        self.alpha.fill_(alpha)
        self.beta.fill_(beta)

    @torch.no_grad()
    def take(self, keys, labels):
        """Replace keys [N, E] and labels [N], by any number of them."""
        self.keys.data = keys.to(self.keys)
        self.labels = labels.to(self.labels)


class KeyValueCache(NamedClasses, FrozenFeatures):
    """Part of methods whose learner is a ``Cache`` beside texts ``class_features`` [C, E], before PromptTrainer.

    A key is the unit mean over ``options.AUGMENT_EPOCH`` views of a training image's feature. A checkpoint's keys are kept for
    those classes that are here.
    """

    def fill_cache(self):
        """Take the training images' features as keys."""
        features, labels = self.support(self.options.AUGMENT_EPOCH)
        self.learner.take(unit(features.mean(dim=0)), labels)

    def values(self):
        """One-hot labels of the keys [N, C]."""
        return F.one_hot(self.learner.labels, len(self.class_features)).to(self.learner.keys.dtype)

    def adapt_state_dict(self, name, state_dict):
        """The keys of the classes that are here, with their labels here."""
        number = {before: own for own, before in self.learned_classes(self._trained_classes)}
        labels = torch.tensor([number.get(label, -1) for label in state_dict["labels"].tolist()], dtype=torch.long)
        state = {**state_dict, "keys": state_dict["keys"][labels >= 0], "labels": labels[labels >= 0]}
        self.learner.take(torch.zeros_like(state["keys"]), torch.zeros_like(state["labels"]))  # as many as there will be
        return state
