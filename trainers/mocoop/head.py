"""MoCoOp's classifier as a module of its own, for programs without this project."""

import torch
from torch import nn

from basics import UserError
from learning.heads import Head, check_exportable


class MixtureHead(Head):
    """MoCoOp's: a linear router weighs the class features of ``top_k`` of G experts; f is the image's feature, of length 1."""

    def __init__(self, features, router, top_k, logit_scale, renormalise):
        super().__init__()
        self.top_k, self.logit_scale, self.renormalise = top_k, logit_scale, renormalise
        self.register_buffer("class_features", features)  # [G, C, E]
        self.register_buffer("router_weight", router.weight.detach().clone())  # [G, E]
        self.register_buffer("router_bias", router.bias.detach().clone())  # [G]

    def settings(self):
        """What classifier.json says of it."""
        settings = {"top_k": self.top_k, "renormalise": self.renormalise, "logit_scale": self.logit_scale}
        return {"kind": "mixture", **settings, "unit_features": True}

    def scores(self, features):
        features = features / features.norm(dim=-1, keepdim=True)
        best, index = (features @ self.router_weight.t() + self.router_bias).topk(self.top_k, dim=-1)  # [B, k]
        chosen = self.class_features[index] * best.softmax(dim=-1)[:, :, None, None]  # [B, k, C, E]
        mixed = chosen.sum(dim=1)  # [B, C, E]
        logits = (mixed * features[:, None]).sum(dim=-1)
        return self.logit_scale * (logits / mixed.norm(dim=-1).clamp_min(1e-6) if self.renormalise else logits)


@torch.no_grad()
def mixture_head(trainer):
    """The head of a trained MoCoOp. UserError: one that isn't exported, with the reason."""
    check_exportable(trainer)
    router, options = trainer.learner.router, trainer.options
    if not isinstance(router, nn.Linear):
        raise UserError("export: this MoCoOp's router isn't one linear layer (TRAINER.MOCOOP.ROUTER_HIDDEN); that isn't exported")
    if options.META_NET:
        raise UserError("export: this MoCoOp's prompts depend on the image (TRAINER.MOCOOP.META_NET); that isn't exported")
    return MixtureHead(trainer.text_features(), router, options.TOP_K, float(trainer.scale), options.RENORMALISE)
