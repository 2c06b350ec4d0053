"""CoCoOp: a context that depends on the image (Zhou et al., Conditional Prompt Learning for Vision-Language Models, 2022)."""

from collections import OrderedDict

import torch
from torch import nn

from dassl.config import section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.keys import context_length, initial_words, precision
from prompting import context_programs

from .coop import ContextLearner

TOKENS_AT_ONCE = 50_000  # token positions in one pass of the text tower while evaluating


def build_meta_net(embed_dim, width):
    """Image features [B, E] -> [B, D], what every context vector of an image's prompts is shifted by; E / 16 hidden units."""
    hidden = embed_dim // 16
    return nn.Sequential(OrderedDict(linear1=nn.Linear(embed_dim, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, width)))


class ConditionalLearner(ContextLearner):
    """``ctx`` [M, D] and a meta-net E -> E / 16 -> D whose output is added to every context vector."""

    def __init__(self, shape, init, embed_dim):
        super().__init__(shape, init)
        self.meta_net = build_meta_net(embed_dim, shape[-1])

    def forward(self, image_features):
        """[B, E] -> contexts [B, M, D]."""
        return self.ctx + self.meta_net(image_features)[:, None]


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Every image has its own context, so every image has its own text features of all classes."""

    section = "COCOOP"
    takes_several_labels = True
    epochs_only_in_schedule = True

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.COCOOP = section(N_CTX=context_length(), CTX_INIT=initial_words(), PREC=precision())

    def build_learner(self, classnames):
        n_ctx, init, words = self.initial_context()
        print(f'Initial context: "{words}"')
        print(f"Number of context words (tokens): {n_ctx}")
        self.n_ctx = n_ctx
        self.prompt_plan = self.plan([context_programs(classnames, n_ctx, tokenizer=self.clip.tokenizer)])
        return ConditionalLearner((n_ctx, self.clip.width), init, self.clip.embed_dim)

    def prepare(self):
        """Nothing outlives an image."""

    def conditional_features(self, image_features):
        """Unit text features [B, C, E], one set for each of [B, E] image features."""
        contexts = self.learner(image_features)
        return self.encode(self.prompt_plan.tile(len(contexts), self.n_ctx), contexts)

    def logits(self, image_features, _=None):
        at_once = max(1, TOKENS_AT_ONCE // self.prompt_plan.num_tokens)
        chunks = image_features.split(len(image_features) if torch.is_grad_enabled() else at_once)
        parts = [torch.einsum("be,bce->bc", f, self.conditional_features(f)) for f in chunks]
        return self.clip.logit_scale * torch.cat(parts)

    def loss(self, image_features, labels):
        logits = self.logits(image_features)
        return self.class_loss(logits, labels), logits, {}
