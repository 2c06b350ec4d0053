"""MoCoOp whose contexts depend on the image: CoCoOp's meta-net shifts those of the experts that the router chose (META_NET)."""

import torch

from ..cocoop import TOKENS_AT_ONCE
from . import losses
from .deep import Deep


def powers_of_two(n):
    """n as a falling sum of powers of two: 6 -> [4, 2]. Plans of so many copies are few, and each is made once."""
    return [1 << bit for bit in reversed(range(n.bit_length())) if n >> bit & 1]


class Conditional(Deep):
    """Shapes: B images, k chosen experts, C classes, M vectors of an expert, E width of the common space."""

    def plan_classes(self):
        """Plans of the class names: of all experts, ``class_plan``, or, where prompts depend on the image, of each."""
        readouts = [(self.dm.dataset.classnames, self.options.FULL_STOP)]
        self.class_plan = self.expert_plans = None
        if self.options.META_NET:
            self.expert_plans = [self.plan([self.expert_programs(g, readouts)]) for g in range(len(self.groups))]
        else:
            self.class_plan = self.experts_plan(readouts)

    def conditional_features(self, image_features, chosen):
        """Unit text features [B, k, C, E] of the experts ``chosen`` [B, k] for each of [B, E] image features.

        Expert by expert: all images that chose it share one pass.
        """
        shifts, k = self.learner.meta_net(image_features), chosen.shape[1]  # [B, D]
        contexts = self.learner.ctx.split(self.ctx_lengths)  # G of [M, D]
        deep = [rows.split(self.ctx_lengths) for rows in self.learner.text_prompts]
        experts, found, places = chosen.flatten().tolist(), [], []
        for g in sorted(set(experts)):
            own = [i for i, expert in enumerate(experts) if expert == g]  # of the B * k places those where it was chosen
            for part in torch.tensor(own, device=chosen.device).split(powers_of_two(len(own))):
                plan = self.expert_plans[g].tile(len(part), self.ctx_lengths[g])
                context = contexts[g] + shifts[part // k][:, None]  # [n, M, D]
                found.append(self.expert_features(plan, context, [rows[g].repeat(len(part), 1) for rows in deep]))  # [n, C, E]
                places.append(part)
        return torch.cat(found)[torch.cat(places).argsort()].unflatten(0, chosen.shape)

    def conditional_cosines(self, image_features, scores):
        """Cosines [B, C] of images to the mixtures of their own experts' features; scores [B, G] are the router's."""
        k = self.options.TOP_K
        tokens = k * max(plan.num_tokens for plan in self.expert_plans)
        at_once = len(image_features) if torch.is_grad_enabled() else max(1, TOKENS_AT_ONCE // tokens)
        parts = []
        for f, s in zip(image_features.split(at_once), scores.split(at_once)):
            best, chosen = s.topk(k, dim=-1)
            features = self.conditional_features(f, chosen)
            parts.append(losses.own_mixture_cosine(f, features, best.softmax(dim=-1), self.options.RENORMALISE))
        return torch.cat(parts)
