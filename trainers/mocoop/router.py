"""MoCoOp's router: its layers, what it learns from, and how it is kept from sending all images the same way."""

import torch

from basics import UserError
from learning.support import support_views
from prompting import unit

from . import losses
from .experts import Experts


def check_router(options):
    """UserError for settings of the router that would have no effect."""
    of_target = {"ROUTER_TAU": 1.0, "ROUTER_CENTRE": False}
    changed = [name for name, default in of_target.items() if options[name] != default]
    if changed and (options.ROUTER_LOSS == "none" or options.ROUTER_TARGET != "group"):
        key, value = ("ROUTER_LOSS", "none") if options.ROUTER_LOSS == "none" else ("ROUTER_TARGET", options.ROUTER_TARGET)
        raise UserError(
            f"TRAINER.MOCOOP.{changed[0]} {options[changed[0]]} has no effect with TRAINER.MOCOOP.{key} {value}: it is of the "
            "target of ROUTER_TARGET group; leave one of them out"
        )
    if options.BALANCE_LOSS != "none" and not options.LAMBDA_BALANCE:
        raise UserError(
            f"TRAINER.MOCOOP.LAMBDA_BALANCE 0: BALANCE_LOSS {options.BALANCE_LOSS} would have no effect; set BALANCE_LOSS none"
        )


class Routed(Experts):
    """The router's part of MoCoOp. B images, G experts, E width of the common space."""

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        check_router(cfg.TRAINER.MOCOOP)
        if cfg.DATASET.MULTI_LABEL and cfg.TRAINER.MOCOOP.ROUTER_TARGET == "true_class":
            raise UserError("TRAINER.MOCOOP.ROUTER_TARGET true_class: with DATASET.MULTI_LABEL there are several; set group")

    def before_train(self):
        super().before_train()
        if self.learner.router_centre is not None and self.start_epoch == 0:  # a resumed run has it from its checkpoint
            self.learner.router_centre.copy_(self.mean_group_cosines())

    @torch.no_grad()
    def mean_group_cosines(self):
        """Each group's mean cosine over the training images in the first epoch's augmentation: [G], in fp32."""
        features, _ = support_views(self, 1)  # [1, N, E]
        print("Router: each group's mean cosine over the training images is subtracted from the target's cosines")
        return (unit(features[0]) @ self.training_targets().means.t()).double().mean(dim=0).float()

    def router_terms(self, scores, image_features, labels):
        """What router and balance add to the loss: scores [B, G], image features [B, E], labels [B] -> (sum, {name: term})."""
        o, targets, terms, total = self.options, self.training_targets(), {}, 0.0
        if o.ROUTER_LOSS != "none":
            if o.ROUTER_TARGET == "group":
                centre = self.learner.router_centre
                target = losses.group_target(image_features.detach(), targets.means, o.ROUTER_TAU, centre)
            else:
                target = losses.true_class_target(image_features, targets.prototypes, targets.seen[labels])
            self.entropies.add(scores, target, new_epoch=self.batch_idx == 0)
            terms["loss_router"] = losses.router_loss(scores, target, o.ROUTER_LOSS)
            total = total + o.LAMBDA_ROUTER * terms["loss_router"]
        if o.BALANCE_LOSS != "none":
            terms["loss_balance"] = losses.balance_loss(scores, o.TOP_K, o.BALANCE_LOSS)
            total = total + o.LAMBDA_BALANCE * terms["loss_balance"]
        return total, terms
