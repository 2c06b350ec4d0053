"""What CLAP and the adapters beside it learn on features of images and texts; and checkpoints of those that have a cache."""

import torch
import torch.nn.functional as F
from torch import nn

from prompting import unit

from .clap_settings import SETTINGS


class AdapterLearner(nn.Module):
    """What an INIT learns; names as in the repository CLAP.

    Attributes:
        base_text_features: [C, E], fixed.
        prototypes: [C, E], weights of a classifier, or (TR) what is added to the text features.
        mlp: ClipA's net on the image feature.
        cache_keys, cache_values: TipA's, [N, E] of N training images and [N, C], their one-hot labels.
    """

    def __init__(self, base, kind, images):
        super().__init__()
        (C, E), base = base.shape, base.cpu()
        self.register_buffer("base_text_features", base)
        if kind == "ClipA":
            first, second = nn.Linear(E, E // 4, bias=False), nn.Linear(E // 4, E, bias=False)
            self.mlp = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        elif kind.startswith("TipA"):
            self.cache_keys = nn.Parameter(torch.zeros(images, E))
            self.register_buffer("cache_values", torch.zeros(images, C))
        elif kind == "RANDOM":
            self.prototypes = nn.Parameter(nn.init.kaiming_normal_(torch.empty(C, E)))
        else:
            self.prototypes = nn.Parameter(torch.zeros(C, E) if kind.startswith("TR") else base.clone())
        self.kind, self.learns_prototypes = "TR" if kind == "TRenh" else kind, hasattr(self, "prototypes")
        self.setting = dict(SETTINGS.get(self.kind, {}))

    def text_features(self):
        """Unit vectors of the classes [C, E]."""
        if not self.learns_prototypes:
            return unit(self.base_text_features)
        if self.kind == "TR":
            return unit(self.base_text_features + self.setting["alpha"] * self.prototypes)
        return unit(self.prototypes)

    def logits(self, features, text, scale):
        """Features [B, E] as long as CLIP gives them, as queries of TipA's unit keys, too; unit vectors of the classes [C, E]."""
        if self.kind == "ClipA":
            ratio = self.setting["ratio"]
            features = ratio * self.mlp(features) + (1 - ratio) * features
        logits = scale * unit(features) @ text.t()
        if self.kind.startswith("TipA"):
            affinity = features @ unit(self.cache_keys).t()
            alpha, beta = self.setting["alpha"], self.setting["beta"]
            logits = logits + alpha * (beta * (affinity - 1)).exp() @ self.cache_values
        return logits

    def distance(self, metric):
        """Distances [C] of the prototypes from the text features: squared, or 1 - cosine."""
        if metric == "l2":
            return (self.prototypes - self.base_text_features).pow(2).sum(dim=1)
        return 1 - F.cosine_similarity(self.prototypes, self.base_text_features, dim=1)

    def take_cache(self, keys, values):
        """Other keys [N, E] and one-hot labels [N, C], of any N."""
        self.cache_keys.data = keys.to(self.cache_keys, copy=True)  # what is learned isn't what is trained on
        self.cache_values = values.to(self.cache_keys, copy=True)


class CachedClasses:
    """Part of methods whose learner is an ``AdapterLearner`` of ``kind``, before ClassRows among a class's bases.

    A cache has a column for each class, and may come from another support set.
    """

    def adapt_state_dict(self, name, state_dict):
        """Columns of classes in a cache are taken as rows are; a cache of another support set makes room for its keys."""
        values = state_dict.get("cache_values")
        if values is not None:
            state_dict = {**state_dict, "cache_values": values.t()}
        state_dict = super().adapt_state_dict(name, state_dict)
        if not self.learner.learns_prototypes:
            state_dict.pop("prototypes", None)  # the text features, in published files
        if values is not None:
            state_dict["cache_values"] = state_dict["cache_values"].t()
            if self.kind.startswith("TipA"):
                self.learner.take_cache(*(torch.zeros_like(state_dict[entry]) for entry in ("cache_keys", "cache_values")))
        return state_dict
