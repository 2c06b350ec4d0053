"""What a prompt-learning method is, and one whole training step, top to bottom.

A method says what it learns (``build_learner``), its text features (``text_features``) and, where it is more than cross-entropy,
its loss (``loss``). One frozen CLIP per run, one image encoding per step, text features once per evaluation.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key
from dassl.engine import TrainerX
from dassl.engine.checkpoint import check_classes
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights, parallel
from prompting import load_clip
from prompting.classnames import check_classnames, remarks_on_names

from .dataset import dataset_class
from .image_side import ImageSide
from .kept_features import KeepsFeatures, cache_folder
from .keys import check_context
from .prediction import Prediction
from .text_side import TextSide


class PromptTrainer(TextSide, ImageSide, KeepsFeatures, Prediction, TrainerX):
    """Base of all methods: a frozen CLIP and a learner, registered as ``prompt_learner`` (the published name).

    Subclasses give ``section``, the name of their part of ``cfg.TRAINER``, whose ``PREC`` is the precision. Shapes: B images,
    C classes, E width of CLIP's common space.
    """

    weights_of_a_model: tuple[str, ...] = ("weights of CLIP", "configuration of CLIP")
    section = "COOP"
    names_classes = True  # in prompts
    own_start = ""  # words that a context starts from whatever CTX_INIT says
    model_name = "prompt_learner"  # of the learner's folder in a run
    published_names: dict[str, Any] = {}  # {pattern of an entry of a published checkpoint: our name, or function of the match}
    max_norm = 0.0  # gradients are clipped to this norm; 0: not at all

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
        """Loss of a batch: what ``encode_image`` gives [B, ...], labels [B] -> (loss, logits [B, C], {name: value to log})."""
        logits = self.logits(image_features, self.text_features())
        return F.cross_entropy(logits, labels), logits, {}

    def prepare(self) -> Any:
        """What a whole evaluation needs and no image changes; handed to ``logits`` with every batch."""
        return self.text_features()

    def logits(self, image_features: torch.Tensor, prepared: Any) -> torch.Tensor:
        """What ``encode_image`` gives [B, ...] and what ``prepare`` gave -> [B, C] logits."""
        return self.clip.logit_scale * image_features @ prepared.t()

    # -- one training step -----------------------------------------------------------------------------------------------------

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)  # [b, 3, R, R] of this process (or kept features [b, E]), [B] of all
        self._prepared = None
        image_features = self.batch_features(images)  # [B, E]
        loss, logits, parts = self.loss(image_features, labels)
        self.backward_and_update(loss, parts)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), **{k: v.item() for k, v in parts.items()}, "acc": compute_accuracy(logits, labels)[0].item()}

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
        return self.logits(self.batch_features(images), self.prepared())

    def prepared(self):
        """What ``prepare`` gave, computed once an evaluation."""
        if self._prepared is None:
            self._prepared = self.prepare()
        return self._prepared

    # -- what the engine asks --------------------------------------------------------------------------------------------------

    def build_model(self):
        cfg, backbone, precision = self.cfg, self.cfg.MODEL.BACKBONE, self.options.PREC
        if self.names_classes:
            self.check_names()
        print(f"Loading CLIP (backbone: {backbone.NAME})")
        with parallel.main_first():  # it may download weights
            self.clip = load_clip(backbone.NAME, backbone.PATH, precision, self.device)
        if precision == "fp16" and self.clip.dtype == torch.float32:
            print("PREC fp16 on a CPU: computing in fp32")
        if tuple(cfg.INPUT.SIZE) != (self.clip.image_size,) * 2:
            raise UserError(
                f"INPUT.SIZE {tuple(cfg.INPUT.SIZE)} doesn't fit the backbone {backbone.NAME}, which takes "
                f"({self.clip.image_size}, {self.clip.image_size})"
            )
        self._prepared = None
        self._whole_size = None  # samples of the current batch, where several processes share it
        with torch.random.fork_rng(devices=[]):  # what is learned starts from the seed alone, however CLIP was loaded
            torch.manual_seed(cfg.SEED) if cfg.SEED >= 0 else torch.seed()
            self.learner = self.build_learner(self.dm.dataset.classnames)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.clip.dtype == torch.float16)
        if self.learner is None:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            check_classes(load_checkpoint(cfg.MODEL.INIT_WEIGHTS), self, cfg.MODEL.INIT_WEIGHTS)
            load_pretrained_weights(self.learner, cfg.MODEL.INIT_WEIGHTS)
        count = sum(p.numel() for p in self.learner.parameters())
        print(f"CLIP is frozen but for what the method learns: {count:,} parameters")
        self.register_learner()

    def check_names(self):
        """UserError for classes that the text encoder can't tell apart; a line about names that are no words."""
        names = self.dm.dataset.classnames
        check_classnames(names, published=bool(getattr(dataset_class(self.cfg), "sources", ())))
        for line in remarks_on_names(names):
            print(line)

    def register_learner(self):
        """Give the learner an optimiser and a schedule, and the engine all three; replaces an earlier learner."""
        self.learner.to(self.device)
        self.check_image_side()
        self.optim = build_optimizer(self.learner, self.cfg.OPTIM, param_groups=self.param_groups())
        self.sched = self.build_schedule()
        for registry in (self._models, self._optims, self._scheds):
            registry.pop(self.model_name, None)
        self.register_model(self.model_name, self.learner, self.optim, self.sched)

    def build_schedule(self):
        return build_lr_scheduler(self.optim, self.cfg.OPTIM)

    def param_groups(self) -> list[dict[str, Any]] | None:
        """Optimiser groups, where parameters have different learning rates; None for one group."""
        return None

    def made_from(self):
        weights = self.clip.weights
        found = {
            "weights of CLIP": f"sha256 {weights['state_sha256']}",
            "computed in": str(self.clip.dtype).removeprefix("torch."),
        }
        if "config_sha256" in weights:
            found["configuration of CLIP"] = f"sha256 {weights['config_sha256']}"
        return found

    def weights_record(self):
        return self.clip.weights

    def check_parallel(self):
        """UserError for a method that several processes can't share: one that handles whole batches itself."""
        hooks = ("parse_batch_train", "parse_batch_test", "forward_backward", "model_inference", "run_epoch", "test")
        own = [hook for hook in hooks if getattr(type(self), hook) is not getattr(PromptTrainer, hook)]
        if own:
            raise UserError(
                f"{type(self).__name__} has a {own[0]} of its own, so it runs in one process: start it "
                "with python in place of torchrun"
            )

    def run_epoch(self):
        if self.learner is not None:
            parallel.copy_from_main(self.learner.parameters())  # a GPU's last bits may differ: no drifting apart
        super().run_epoch()

    def test(self, split=None):
        self._prepared = None  # it may count what an evaluation sees
        return super().test(split)

    def adapt_state_dict(self, name: str, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Entries of a published checkpoint under our names; its frozen entries (CLIP, tokens of classes) are dropped."""
        found = {}
        for entry, value in state_dict.items():
            for pattern, ours in self.published_names.items():
                if match := re.fullmatch(pattern, entry):
                    found[ours(match) if callable(ours) else match.expand(ours)] = value
        return found or {entry: value for entry, value in state_dict.items() if not entry.startswith("token_")}

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        self._prepared = None
        if self.learner is not None:
            super().load_model(directory, epoch)

    def resume_model_if_exist(self, directory):
        self._prepared = None
        epochs = super().resume_model_if_exist(directory)
        if parallel.from_main(epochs) != epochs:
            raise UserError(f"the processes of this run don't see the same checkpoints in {directory}")
        return epochs
