"""The registry of backbones: torchvision's ResNets, and whatever a trainer file registers."""

import torch.nn as nn

from ..utils import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module):
    """Turns images [B, 3, H, W] into features [B, ``out_features``]."""

    @property
    def out_features(self):
        """The width of the features."""
        return self._out_features


def build_backbone(name, verbose=True, **kwargs):
    """Return the backbone called ``name``; keyword arguments go to it (``pretrained``)."""
    backbone = BACKBONE_REGISTRY.get(name)
    if verbose:
        print(f"Backbone: {name}")
    return backbone(**kwargs)


class _ResNet(Backbone):
    """A torchvision ResNet without its classifier."""

    def __init__(self, name, pretrained):
        super().__init__()
        from torchvision import models  # takes longer to import than PyTorch itself

        self.net = models.get_model(name, weights="DEFAULT" if pretrained else None)
        self._out_features = self.net.fc.in_features
        self.net.fc = nn.Identity()

    def forward(self, x):
        """Return features [B, D] of images [B, 3, H, W]."""
        return self.net(x)


def _register_resnet(name):
    def resnet(pretrained=True, **kwargs):
        return _ResNet(name, pretrained)

    resnet.__name__ = name
    BACKBONE_REGISTRY.register(resnet)


for _depth in (18, 34, 50, 101, 152):
    _register_resnet(f"resnet{_depth}")
