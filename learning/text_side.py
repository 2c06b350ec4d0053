"""The text side of a method: contexts and their words, plans of prompts, text features."""

import torch

from basics import UserError
from dassl.utils import parallel
from prompting import Plan, context_programs, hard_programs
from prompting.insertions import NOTHING

from .shares import SplitPlan

# On a GPU a kernel costs as much as some hundred tokens: suffixes of neighbouring lengths share a bucket there
PADDING_ALLOWANCE = {"cuda": 512}
WORDS_UP_TO = 4  # context vectors that start from the first words of CTX_INIT, as published


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
        ids = torch.tensor(self.clip.tokenizer.encode(words), device=self.device)
        return len(ids), self.clip.text.embed(ids), words

    def leading_words(self, n_ctx, classnames):
        """Context of a prompt whose first ``n_ctx`` tokens are learned, as in MaPLe, IVLP and PromptSRC.

        Up to four vectors start from the first words of CTX_INIT, whose other words stay in the prompt. More vectors, or those of
        no words, start from N(0, 0.02).

        Returns:
            (initial values [n_ctx, D], [C] programs)
        """
        words = self.initial_words()
        if not words or n_ctx > WORDS_UP_TO:
            if words:
                print(f"More than {WORDS_UP_TO} context vectors: they start at random, not from CTX_INIT")
            start, rest, text = torch.randn(n_ctx, self.clip.width) * 0.02, [], " ".join(["X"] * n_ctx)
        else:
            ids = self.clip.tokenizer.encode(words)
            if len(ids) < n_ctx:
                raise UserError(f'TRAINER.{self.section}.CTX_INIT "{words}" has {len(ids)} tokens, fewer than {n_ctx} vectors')
            start, rest, text = self.clip.text.embed(torch.tensor(ids[:n_ctx], device=self.device)), ids[n_ctx:], words
        print(f'Initial context: "{text}"\nNumber of context words (tokens): {n_ctx}')
        return start, context_programs(classnames, n_ctx, tokenizer=self.clip.tokenizer, frozen=rest)

    def plan(self, programs, later=None):
        """Plan of [G][C] programs, for ``encode``; of several processes each takes a part.

        later: {layer: [G][C] later programs}, where the prompts have other rows from a layer on.
        """
        if parallel.world_size() > 1:
            return SplitPlan.of(programs, self._compile, later)
        return self._compile(programs, later=later)

    def _compile(self, programs, ragged=False, later=None):
        """Plan on this run's device, bucketed as suits it. UserError for programs of another tokenizer than the model's."""
        self.clip.tokenizer.check_programs(programs)
        plan = self.clip.text.compile(programs, PADDING_ALLOWANCE.get(self.device.type, 0), ragged, later)
        return plan.to(self.device)

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
    def hard_features(self, templates, classnames, raw=False, underscores=False):
        """Text features [T, C, E] of hard templates filled with class names, of length 1 unless ``raw``.

        underscores: as for ``hard_programs``.
        """
        programs = [hard_programs(t, classnames, self.clip.tokenizer, underscores) for t in templates]
        return self.clip.encode_text(self._compile(programs), raw=raw)
