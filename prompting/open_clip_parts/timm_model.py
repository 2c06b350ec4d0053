"""Stands in for open_clip's module of the same name, which imports timm."""


class TimmModel:
    """An image encoder of timm's: built by open_clip itself."""

    def __init__(self, *args, **kwargs):
        raise TypeError("models of timm's are built by open_clip itself")
