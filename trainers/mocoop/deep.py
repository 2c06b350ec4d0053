"""MoCoOp with prompts in deeper layers and in the image encoder, and with PromptSRC's self-regularisation.

Each expert has rows of its own in the lower layers of the text tower. The image encoder's rows belong to all experts: the
router reads the image feature, so rows of an expert's own would cost a pass of the image encoder for the router and one for each
chosen expert.
"""

import contextlib

import torch.nn.functional as F

from basics import UserError
from learning import ImageLearning
from learning.keys import check_depth
from learning.self_regularisation import SelfRegularised, logit_distance
from prompting import unit

from ..vpt import ImagePrompts
from .parts import idle_rows_kept
from .router import Routed
from .switches import check_deep


class Deep(SelfRegularised, Routed, ImagePrompts):
    """Shapes: B images, C training classes, G experts, E width of the common space."""

    published_names = {}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.DATASET.MULTI_LABEL and cfg.TRAINER.MOCOOP.SELF_REGULARISATION:
            raise UserError(
                "TRAINER.MOCOOP.SELF_REGULARISATION True: with DATASET.MULTI_LABEL there is no softmax over classes that could "
                "be held near frozen CLIP's; leave out one of them"
            )

    @property
    def image_learning(self):
        return ImageLearning.LAYERS if self.options.TUNE_LAYERNORM else super().image_learning

    @property
    def averages_epochs(self):
        return self.options.SELF_REGULARISATION

    @property
    def epochs_only_in_schedule(self):
        """False where MAX_EPOCH decides how much each epoch weighs."""
        return not self.averages_epochs

    @property
    def has_image_teacher(self):
        """Without learned image prompts the frozen feature is the image's own."""
        return self.options.SELF_REGULARISATION and bool(self.options.PROMPT_DEPTH_VISION)

    def check_switches(self):
        """UserError for switches that exclude each other, and for depths that this model, or an expert, doesn't have."""
        check_deep(self.options, self.leaves_out)
        self._check_depth("PROMPT_DEPTH_VISION", 0, lambda: self.clip.image_blocks, "the image encoder")
        self._check_depth("PROMPT_DEPTH_TEXT", 1, lambda: self.clip.text.blocks, "the text tower")
        depth = self.options.PROMPT_DEPTH_TEXT
        if depth > 1 and 0 in self.ctx_lengths:
            group = self.groups[self.ctx_lengths.index(0)]
            raise UserError(
                f'TRAINER.MOCOOP.PROMPT_DEPTH_TEXT {depth}: expert "{group.name}" has no words beside the class name '
                f'("{group.templates[0]}"), so nothing that deeper layers could replace'
            )

    def _check_depth(self, key, none, blocks, where):
        """UserError for a depth that a tower doesn't have, or if nothing can be put into its layers (``blocks()`` raises)."""
        name, depth = f"TRAINER.MOCOOP.{key}", self.options[key]
        if depth == none:
            return
        try:
            layers = len(blocks())
        except UserError as e:
            raise UserError(f"{name} {depth}: {e}") from None
        check_depth(name, depth, layers, where)

    def image_and_frozen(self, image_features):
        """Features [B, E] of a training batch, and frozen CLIP's of the same images; the same ones where nothing is learned."""
        return image_features.unbind(dim=1) if self.has_image_teacher else (image_features, image_features)

    def regularisation(self, text, image_features, frozen, logits):
        """What self-regularisation adds to the loss: (sum, {name: term}).

        Each expert is held near the mean feature of its own group's templates; logits near those of frozen CLIP with the
        mean over the groups.

        Args:
            text: [G, C, E] unit features of the experts; image_features, frozen: [B, E]; logits: [B, C].
        """
        o, targets = self.options, self.training_targets()
        teacher = targets.prototypes[:, targets.seen]  # [G, C, E]
        zero_shot = self.scale * frozen @ unit(teacher.mean(dim=0)).t()
        terms = {"l1_text": F.l1_loss(text, teacher), "kl_logits": logit_distance(logits, zero_shot)}
        total = o.SELF_TEXT_WEIGHT * terms["l1_text"] + terms["kl_logits"]
        if self.has_image_teacher:
            terms["l1_image"] = F.l1_loss(image_features, frozen)
            total = total + o.SELF_IMAGE_WEIGHT * terms["l1_image"]
        return total, terms

    def param_groups(self):
        norms = list(self.learner.norms.parameters())
        if not norms:
            return None
        rest = [p for name, p in self.learner.named_parameters() if not name.startswith("norms.")]
        return [{"params": norms, "lr": self.cfg.OPTIM.LR * self.options.LAYERNORM_LR_MULT}, {"params": rest}]

    def step(self):
        """The optimiser's step; where CHOSEN_BELOW leaves experts out, their rows stay as they are."""
        with contextlib.ExitStack() as kept:
            for rows in (self.learner.ctx, *self.learner.text_prompts) if self.leaves_out else ():
                kept.enter_context(idle_rows_kept(self.optim, rows))
            super().step()
