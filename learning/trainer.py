"""What a prompt-learning method is, and one whole training step, top to bottom.

A method says what it learns (``build_learner``), its text features (``text_features``) and, where it is more than cross-entropy,
its loss (``loss``). One frozen CLIP per run, one image encoding per step, text features once per evaluation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from basics import UserError
from dassl.config import key
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.utils import parallel

from .building import Building
from .checkpoints import Checkpoints
from .image_side import ImageSide, is_ours
from .kept_features import KeepsFeatures, cache_folder
from .keys import check_context
from .prediction import Prediction
from .preprocessing import settled
from .several_labels import SeveralLabels
from .text_side import TextSide


class PromptTrainer(SeveralLabels, TextSide, ImageSide, KeepsFeatures, Prediction, Building, Checkpoints, TrainerX):
    """Base of all methods: a frozen CLIP and a learner, registered as ``prompt_learner`` (the published name).

    Subclasses give ``section``, the name of their part of ``cfg.TRAINER``, whose ``PREC`` is the precision. Shapes: B images,
    C classes, E width of CLIP's common space.
    """

    section = "COOP"
    names_classes = True  # in prompts
    warns_of_names = False  # whose words the model never met, in place of refusing them
    gives_logits = True
    takes_several_labels = True  # where images have several; a class with a loss of its own says so again
    own_start = ""  # words that a context starts from whatever CTX_INIT says
    model_name = "prompt_learner"  # of the learner's folder in a run
    rate_changes_by_step = False  # the schedule counts steps, not epochs
    max_norm = 0.0  # gradients are clipped to this norm; 0: not at all

    def __init__(self, cfg):
        super().__init__(settled(cfg))

    @staticmethod
    def extend_cfg(cfg):
        """Keys of all methods; the caches are docs/caching.md's."""
        cfg.TRAINER.CHECKPOINTING = key(
            False, "recompute encoders with something to learn layer by layer in backward: a tenth of the memory, a third slower"
        )
        cfg.TRAINER.FEATURE_CACHE = key(".features", "folder of image features, below DATASET.ROOT", also={"": "none"})
        cfg.TRAINER.FEATURE_CACHE_GB = key(10.0, "above this the least recently used are removed", low=0.0, high=1e9)
        cfg.TRAINER.CACHE_VIEWS = key(False, "keep features of augmented training images, too (--cache-features)")

    @property
    def options(self):
        """This method's own part of the configuration."""
        return self.cfg.TRAINER[self.section]

    def check_cfg(self, cfg):
        if not cfg.MODEL.BACKBONE.NAME:  # no file of a method leaves it empty
            raise UserError("MODEL.BACKBONE.NAME is empty: give the method's YAML file with --config-file, or set the key")
        check_context(self.section, cfg.TRAINER[self.section], self.own_start)
        if cfg.DATALOADER.K_TRANSFORMS > 1 or cfg.INPUT.NO_TRANSFORM:
            asked = (
                "INPUT.NO_TRANSFORM True" if cfg.INPUT.NO_TRANSFORM else f"DATALOADER.K_TRANSFORMS {cfg.DATALOADER.K_TRANSFORMS}"
            )
            raise UserError(f"{asked}: {type(self).__name__} takes one transformed view of an image")
        if "normalize" not in cfg.INPUT.TRANSFORMS:
            raise UserError(
                f'INPUT.TRANSFORMS {tuple(cfg.INPUT.TRANSFORMS)}: lacks "normalize", and CLIP takes normalised images'
            )
        if cfg.TRAINER.CACHE_VIEWS and not cache_folder(cfg.TRAINER):
            raise UserError("TRAINER.CACHE_VIEWS (--cache-features) needs a folder, but TRAINER.FEATURE_CACHE is off")

    # -- what a method says (on the image side: image_learning, image_insertions, encode_image) ---------------------------------

    def build_learner(self, classnames: Sequence[str]) -> nn.Module | None:
        """Module that holds what is learned (nothing else), or None."""
        raise NotImplementedError

    def text_features(self) -> torch.Tensor:
        """Unit text features of the classes, [C, E], with gradients to the learner."""
        raise NotImplementedError

    def loss(
        self, image_features: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of a batch: what ``encode_image`` gives [B, ...], labels [B] -> (loss, logits [B, C], {name: value to log}).

        ``class_loss`` is cross-entropy; where images have several labels ([B, C]) it is binary cross-entropy.
        """
        logits = self.logits(image_features, self.text_features())
        return self.class_loss(logits, labels), logits, {}

    def prepare(self) -> Any:
        """What a whole evaluation needs and no image changes; handed to ``logits`` with every batch."""
        return self.text_features()

    def logits(self, image_features: torch.Tensor, prepared: Any) -> torch.Tensor:
        """What ``encode_image`` gives [B, ...] and what ``prepare`` gave -> [B, C] logits."""
        logits = self.clip.logit_scale * image_features @ prepared.t()
        return logits + self.clip.logit_bias if self.clip.logit_bias else logits

    # -- one training step -----------------------------------------------------------------------------------------------------

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)  # [b, 3, R, R] of this process (or kept features [b, E]), [B] of all
        self._prepared = None
        image_features = self.batch_features(images)  # [B, E]
        loss, logits, parts = self.loss(image_features, labels)
        self.backward_and_update(loss, parts)
        if self.rate_changes_by_step or self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        right = {"acc": compute_accuracy(logits, labels)[0].item()} if labels.dim() == 1 else {}
        return {"loss": loss.item(), **{k: v.item() for k, v in parts.items()}, **right}

    def backward_and_update(self, loss, parts):
        """One optimiser step, through the loss scaler where products are in fp16. ``parts``: the third that ``loss`` gave."""
        self.detect_anomaly(loss)
        self.model_zero_grad()
        self.scaler.scale(loss).backward()
        self.step()

    def step(self):
        """The optimiser's part of ``backward_and_update``, once gradients are there."""
        if self.max_norm > 0:
            self.scaler.unscale_(self.optim)
            nn.utils.clip_grad_norm_(self.learner.parameters(), self.max_norm)
        self.scaler.step(self.optim)
        self.scaler.update()

    @torch.no_grad()
    def model_inference(self, images: torch.Tensor) -> torch.Tensor:
        """Evaluation's step: images [b, 3, R, R], or kept features [b, E], of this process -> logits [B, C] of all."""
        return self.class_scores(self.batch_features(images))

    def prepared(self):
        """What ``prepare`` gave, computed once an evaluation."""
        if self._prepared is None:
            self._prepared = self.prepare()
        return self._prepared

    # -- what the engine asks --------------------------------------------------------------------------------------------------

    def check_parallel(self):
        """UserError for a method that several processes can't share: one that handles whole batches itself."""
        hooks = ("parse_batch_train", "parse_batch_test", "forward_backward", "model_inference", "run_epoch", "test")
        own = [hook for hook in hooks if not is_ours(type(self), hook)]
        if own:
            raise UserError(
                f"{type(self).__name__} has a {own[0]} of its own, so it runs in one process: start it "
                "with python in place of torchrun"
            )

    def run_epoch(self):
        if self.learner is not None:
            parallel.copy_from_main(self.learner.parameters())  # a GPU's last bits may differ: no drifting apart
        super().run_epoch()

    def begin_evaluation(self):
        self._prepared = None  # it may count what an evaluation sees

    def test(self, split=None):
        self.begin_evaluation()
        return super().test(split)
