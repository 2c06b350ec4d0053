"""CoOp: learn the words around the class name (Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022)."""

import torch
from torch import nn

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.keys import class_position, class_specific, context_length, initial_words, precision
from prompting import context_programs


class ContextLearner(nn.Module):
    """CoOp's learned vectors: ``ctx`` [M, D], shared by all classes, or [C, M, D], one context a class.

    Args:
        shape: shape of ``ctx``.
        init: [M, D] initial values, or None for N(0, 0.02).
    """

    def __init__(self, shape, init=None):
        super().__init__()
        self.ctx = nn.Parameter(torch.randn(shape) * 0.02 if init is None else init.detach().float().clone())


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Cross-entropy on cosine logits; TRAINER.COOP: how many vectors, where the class name stands, what they start from."""

    epochs_only_in_schedule = True
    frozen_tokens = ()  # between the context and the class name, where a method's words are longer than its context

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.COOP = section(
            N_CTX=context_length(),
            CSC=class_specific(),
            CTX_INIT=initial_words(),
            PREC=precision(),
            CLASS_TOKEN_POSITION=class_position(),
            TAU=key(0.0, "temperature of the logits; 0: CLIP's own, as published", low=0.0, high=1e6),
        )

    @classmethod
    def knows_its_classes_only(cls, cfg):
        return cfg.TRAINER[cls.section].CSC

    def build_learner(self, classnames):
        n_ctx, init, words = self.initial_context()
        own = self.options.CSC  # a context for each class; not with words
        print(f'Initial context: "{words}"')
        print(f"Number of context words (tokens): {n_ctx}")
        shape = (len(classnames), n_ctx, self.clip.width) if own else (n_ctx, self.clip.width)
        position = self.options.CLASS_TOKEN_POSITION
        programs = context_programs(classnames, n_ctx, position, own, self.clip.tokenizer, self.frozen_tokens)
        self.prompt_plan = self.plan([programs])
        return ContextLearner(shape, init)

    def text_features(self):
        return self.encode(self.prompt_plan, self.learner.ctx)[0]

    def logits(self, image_features, prepared):
        scale = 1 / self.options.TAU if self.options.TAU else self.clip.logit_scale
        return scale * image_features @ prepared.t()
