"""The built-in benchmark: a small drawn world and the sets made from it; see `sets.py` and `models/builtin`."""
