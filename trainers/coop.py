"""CoOp: learn the words around the class name (Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022)."""

import torch
from torch import nn
from yacs.config import CfgNode as CN

from dassl.engine import TRAINER_REGISTRY
from prompting import POSITIONS, UserError, context_programs

from .base import PromptTrainer


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

    frozen_tokens = ()  # between the context and the class name, where a method's words are longer than its context

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.COOP = CN()
        cfg.TRAINER.COOP.N_CTX = 16  # number of context vectors
        cfg.TRAINER.COOP.CSC = False  # class-specific contexts
        cfg.TRAINER.COOP.CTX_INIT = None  # words that the context starts from; their number of tokens is then N_CTX
        cfg.TRAINER.COOP.PREC = "fp16"  # fp16, fp32, amp, bf16
        cfg.TRAINER.COOP.CLASS_TOKEN_POSITION = "end"  # end, middle or front

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.TRAINER.COOP.CLASS_TOKEN_POSITION not in POSITIONS:
            raise UserError(
                f'TRAINER.COOP.CLASS_TOKEN_POSITION "{cfg.TRAINER.COOP.CLASS_TOKEN_POSITION}": '
                f"choose one of {', '.join(POSITIONS)}"
            )

    def build_learner(self, classnames):
        n_ctx, init, words = self.initial_context()
        class_specific = self.options.CSC and init is None  # CoOp: words make a shared context, whatever CSC says
        print(f'Initial context: "{words}"')
        print(f"Number of context words (tokens): {n_ctx}")
        shape = (len(classnames), n_ctx, self.clip.width) if class_specific else (n_ctx, self.clip.width)
        position, length = self.options.CLASS_TOKEN_POSITION, self.clip.text.context_length
        programs = context_programs(classnames, n_ctx, position, class_specific, length, self.frozen_tokens)
        self.prompt_plan = self.plan([programs])
        return ContextLearner(shape, init)

    def text_features(self):
        return self.encode(self.prompt_plan, self.learner.ctx)[0]
