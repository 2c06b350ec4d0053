"""Backbones and heads for trainers that build their classifier from the configuration."""

from .backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from .head import HEAD_REGISTRY, build_head

__all__ = ["BACKBONE_REGISTRY", "HEAD_REGISTRY", "Backbone", "build_backbone", "build_head"]
