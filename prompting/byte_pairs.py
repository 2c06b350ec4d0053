"""CLIP's byte-pair encoding with a memory: its tables take long to build, and runs tokenise the same words."""

import atexit
import importlib.util

from basics import kept

LIBRARIES = ("open_clip", "ftfy", "regex")  # what the ids of a text are a function of
MOST = 5000  # texts that are kept


class BytePairs:
    """open_clip's ``SimpleTokenizer``, built when a text comes that no run has tokenised yet. Attributes as there."""

    sot_token_id, eot_token_id, vocab_size = 49406, 49407, 49408

    def __init__(self):
        specs = [importlib.util.find_spec(name) for name in LIBRARIES]
        stamps = [kept.stamp(spec.origin) if spec and spec.origin else None for spec in specs]
        self._identity = None if None in stamps else stamps
        self._known = (self._identity and kept.recall("tokens", self._identity)) or {}
        self._tokenizer, self._new = None, {}

    def encode(self, text):
        """Ids of a text, without start and end token."""
        if text in self._known:
            return list(self._known[text])
        if self._tokenizer is None:
            from .open_clip_parts import tokenizer

            # one is made with the module
            self._tokenizer = getattr(tokenizer, "_tokenizer", None) or tokenizer.SimpleTokenizer()
            if self._identity:
                atexit.register(self._keep)
        self._known[text] = self._new[text] = list(self._tokenizer.encode(text))
        return list(self._known[text])

    def _keep(self):
        known = {**self._new, **(kept.recall("tokens", self._identity) or {})}  # another run may have kept others meanwhile
        kept.keep("tokens", self._identity, dict(list(known.items())[:MOST]))
