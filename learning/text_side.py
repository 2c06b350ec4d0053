"""The text side of a method: contexts and their words, plans of prompts, text features."""

import torch

from dassl.utils import parallel
from prompting import Plan, build_plan, encode, hard_tokens, plain_text_plan
from prompting.insertions import NOTHING

from .shares import SplitPlan

# On a GPU a kernel costs as much as some hundred tokens: suffixes of neighbouring lengths share a bucket there
PADDING_ALLOWANCE = {"cuda": 512}


class TextSide:
    """Part of PromptTrainer. Shapes: G groups of prompts, C classes, D width of the text tower, E of the common space."""

    def initial_words(self):
        """The words that a context starts from, or None for a random start."""
        words = self.options.CTX_INIT
        return words.replace("_", " ") if words else None

    def initial_context(self):
        """(number of vectors M, [M, D] initial values or None for random ones, the prompt's beginning in words)"""
        words = self.initial_words()
        if not words:
            n_ctx = self.options.N_CTX
            return n_ctx, None, " ".join(["X"] * n_ctx)
        ids = torch.tensor(encode(words), device=self.device)
        return len(ids), self.clip.text.embed(ids), words

    def plan(self, programs, later=None):
        """Plan of [G][C] programs, for ``encode``; of several processes each takes a part.

        later: {layer: [G][C] later programs}, where the prompts have other rows from a layer on.
        """
        if parallel.world_size() > 1:
            return SplitPlan.of(programs, self._compile, later)
        return self._compile(programs, later=later)

    def _compile(self, programs, ragged=False, later=None):
        """Plan on this run's device, bucketed as suits it."""
        return build_plan(programs, PADDING_ALLOWANCE.get(self.device.type, 0), ragged, later).to(self.device)

    def encode(self, plan, learned=None, raw=False, insertions=NOTHING):
        """Text features [G, C, E] of a plan, of length 1 unless ``raw``.

        Args:
            learned: the vectors that the programs refer to; flattened to [N, D].
            insertions: what the method puts into the text tower's layers.
        """
        learned = None if learned is None else learned.reshape(-1, self.clip.width)
        checkpointing = self.cfg.TRAINER.CHECKPOINTING
        if isinstance(plan, Plan):
            return self.clip.encode_text(plan, learned, checkpointing, raw, insertions)
        return plan.encode(self.clip, learned, checkpointing, raw, insertions)

    @torch.no_grad()
    def hard_features(self, templates, classnames):
        """Unit text features [T, C, E] of hard templates filled with class names."""
        groups = [hard_tokens(template, classnames) for template in templates]
        return self.clip.encode_text(plain_text_plan(groups, PADDING_ALLOWANCE.get(self.device.type, 0)).to(self.device))
