"""The built-in benchmark: a small procedural world, and the sets made from it. No download; see `sets.py` and `models/builtin`."""
