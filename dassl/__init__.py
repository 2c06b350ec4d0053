"""The training engine: an independent implementation of the public API of Dassl that the CoOp family imports.

It knows no CLIP, no prompt and no method. A trainer or dataset file written for Dassl imports and runs here unchanged.
"""

__version__ = "1.0.0"
