"""The registry of heads: layers between a backbone and the classifier."""

import torch.nn as nn

from ..utils import Registry, check_availability

HEAD_REGISTRY = Registry("HEAD")

_ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


def build_head(name, verbose=True, **kwargs):
    """Return the head called ``name``; keyword arguments go to it."""
    head = HEAD_REGISTRY.get(name)
    if verbose:
        print(f"Head: {name}")
    return head(**kwargs)


@HEAD_REGISTRY.register()
def mlp(in_features=2048, hidden_layers=(), activation="relu", bn=True, dropout=0.0, **kwargs):
    """Return linear layers of the widths ``hidden_layers``, each with normalisation, activation and dropout."""
    check_availability(activation, list(_ACTIVATIONS))
    layers = []
    for width in [hidden_layers] if isinstance(hidden_layers, int) else hidden_layers:
        layers.append(nn.Linear(in_features, width))
        if bn:
            layers.append(nn.BatchNorm1d(width))
        layers.append(_ACTIVATIONS[activation]())
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        in_features = width
    head = nn.Sequential(*layers)
    head.out_features = in_features
    return head
