"""Stands in for open_clip's module of the same name, which imports transformers where it is installed."""


class HFTextEncoder:
    """A text tower of Hugging Face's: built by open_clip itself."""

    def __init__(self, *args, **kwargs):
        raise TypeError("text towers of Hugging Face's are built by open_clip itself")
