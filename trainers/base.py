"""What every prompt-learning method does the same way.

A method says what it learns (``build_learner``), its text features (``text_features``) and, where it is more than cross-entropy,
its loss (``loss``). One frozen CLIP per run, one image encoding per step, text features once per evaluation.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_pretrained_weights, parallel
from learning.keys import check_context
from prompting import Plan, build_plan, encode, hard_tokens, load_clip, plain_text_plan, unit

from .image_features import ImageFeatures, cache_folder
from .text_split import SplitPlan

# On a GPU a kernel costs as much as some hundred tokens: suffixes of neighbouring lengths share a bucket there
PADDING_ALLOWANCE = {"cuda": 512}


class PromptTrainer(TrainerX):
    """Base of all methods: a frozen CLIP and a learner, registered as ``prompt_learner`` (the published name).

    Subclasses give ``section``, the name of their part of ``cfg.TRAINER``, whose ``PREC`` is the precision.
    """

    section = "COOP"
    own_start = ""  # words that a context starts from whatever CTX_INIT says
    model_name = "prompt_learner"  # of the learner's folder in a run

    @staticmethod
    def extend_cfg(cfg):
        """Keys of all methods; the caches are docs/caching.md's."""
        cfg.TRAINER.CHECKPOINTING = key(
            False, "recompute the text tower layer by layer in backward: a tenth of the memory, a third slower"
        )
        cfg.TRAINER.FEATURE_CACHE = key(".features", "folder of image features, below DATASET.ROOT", also={"": "none"})
        cfg.TRAINER.FEATURE_CACHE_GB = key(10.0, "above this the least recently used are removed", low=0.0, high=1e9)
        cfg.TRAINER.CACHE_VIEWS = key(False, "keep features of augmented training images, too (--cache-features)")

    @property
    def options(self):
        """This method's own part of the configuration."""
        return self.cfg.TRAINER[self.section]

    def check_cfg(self, cfg):
        check_context(self.section, cfg.TRAINER[self.section], self.own_start)
        if cfg.DATALOADER.K_TRANSFORMS > 1 or cfg.INPUT.NO_TRANSFORM:
            asked = (
                "INPUT.NO_TRANSFORM True" if cfg.INPUT.NO_TRANSFORM else f"DATALOADER.K_TRANSFORMS {cfg.DATALOADER.K_TRANSFORMS}"
            )
            raise UserError(f"{asked}: {type(self).__name__} takes one transformed view of an image")
        if cfg.TRAINER.CACHE_VIEWS and not cache_folder(cfg.TRAINER):
            raise UserError("TRAINER.CACHE_VIEWS (--cache-features) needs a folder, but TRAINER.FEATURE_CACHE is off")

    def check_parallel(self):
        """Between these doors features and labels of all processes are put together."""
        doors = ("parse_batch_train", "parse_batch_test", "forward_backward", "model_inference", "run_epoch", "test")
        own = [door for door in doors if getattr(type(self), door) is not getattr(PromptTrainer, door)]
        if own:
            raise UserError(
                f"{type(self).__name__} has a {own[0]} of its own, so it runs in one process: start it "
                "with python in place of torchrun"
            )

    # -- what a method says --------------------------------------------------------------------------------------------------

    def build_learner(self, classnames):
        """Module that holds what is learned (nothing else), or None."""
        raise NotImplementedError

    def text_features(self):
        """Unit text features of the classes, [C, E], with gradients to the learner."""
        raise NotImplementedError

    def loss(self, image_features, labels):
        """Loss of a batch: unit features [B, E], labels [B] -> (loss, logits [B, C], {name: value to log})."""
        logits = self.logits(image_features, self.text_features())
        return F.cross_entropy(logits, labels), logits, {}

    def prepare(self):
        """What a whole evaluation needs and no image changes; handed to ``logits`` with every batch."""
        return self.text_features()

    def logits(self, image_features, prepared):
        """[B, E] unit image features and what ``prepare`` gave -> [B, C] logits."""
        return self.clip.logit_scale * image_features @ prepared.t()

    # -- what the engine asks ------------------------------------------------------------------------------------------------

    def build_model(self):
        cfg, backbone = self.cfg, self.cfg.MODEL.BACKBONE
        print(f"Loading CLIP (backbone: {backbone.NAME})")
        precision = self.options.PREC
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
        self.trains_encoder, self._encoder_hooks = False, []
        with torch.random.fork_rng(devices=[]):  # what is learned starts from the seed alone, however CLIP was loaded
            torch.manual_seed(max(cfg.SEED, 0))
            self.learner = self.build_learner(self.dm.dataset.classnames)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.clip.dtype == torch.float16)
        if self.learner is None:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.learner, cfg.MODEL.INIT_WEIGHTS)
        count = sum(p.numel() for p in self.learner.parameters())
        print(f"CLIP is frozen but for what the method learns: {count:,} parameters")
        self.register_learner()

    def register_learner(self):
        """Give the learner an optimiser and a schedule, and the engine all three; replaces an earlier learner."""
        self.learner.to(self.device)
        trained = [p for p in self.clip.visual.parameters() if p.requires_grad]
        self.trains_encoder = bool(trained)
        for hook in self._encoder_hooks:
            hook.remove()
        if parallel.world_size() > 1:  # each process has the gradient of its own images
            self._encoder_hooks = [p.register_hook(parallel.sum_gradients) for p in trained]
        self.optim = build_optimizer(self.learner, self.cfg.OPTIM, param_groups=self.param_groups())
        self.sched = self.build_schedule()
        for registry in (self._models, self._optims, self._scheds):
            registry.pop(self.model_name, None)
        self.register_model(self.model_name, self.learner, self.optim, self.sched)

    def build_schedule(self):
        return build_lr_scheduler(self.optim, self.cfg.OPTIM)

    def param_groups(self):
        """Optimiser groups, where parameters have different learning rates; None for one group."""
        return None

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
        ids = torch.tensor(encode(words), device=self.device)
        return len(ids), self.clip.text.embed(ids), words

    def plan(self, programs):
        """Plan of [G][C] programs, for ``encode``; of several processes each takes a part."""
        if parallel.world_size() > 1:
            return SplitPlan.of(programs, self._compile)
        return self._compile(programs)

    def _compile(self, programs, ragged=False):
        """Plan on this run's device, bucketed as suits it."""
        return build_plan(programs, PADDING_ALLOWANCE.get(self.device.type, 0), ragged).to(self.device)

    def encode(self, plan, learned=None, raw=False):
        """Text features [G, C, E] of a plan, of length 1 unless ``raw``; ``learned`` is flattened to [N, D]."""
        learned = None if learned is None else learned.reshape(-1, self.clip.width)
        if isinstance(plan, Plan):
            return self.clip.encode_text(plan, learned, self.cfg.TRAINER.CHECKPOINTING, raw)
        encode_part = functools.partial(self.clip.encode_text, checkpointing=self.cfg.TRAINER.CHECKPOINTING, raw=raw)
        return plan.encode(encode_part, learned)

    @torch.no_grad()
    def hard_features(self, templates, classnames):
        """Unit text features [T, C, E] of hard templates filled with class names."""
        groups = [hard_tokens(template, classnames) for template in templates]
        return self.clip.encode_text(plain_text_plan(groups, PADDING_ALLOWANCE.get(self.device.type, 0)).to(self.device))

    @functools.cached_property
    def image_features(self):
        """The cache that evaluations, and with CACHE_VIEWS training, take image features from."""
        return ImageFeatures(self)

    def takes_features(self, training):
        """Whether batches may hold features in place of pixels: not where a subclass handles them itself."""
        doors = ["parse_batch_test", "model_inference"]
        if training:
            doors = ["parse_batch_train", "forward_backward", "encode_image"]
        return all(getattr(type(self), door) is getattr(PromptTrainer, door) for door in doors)

    def run_epoch(self):
        if self.learner is not None:
            parallel.copy_from_main(self.learner.parameters())  # a GPU's last bits may differ: no drifting apart
        if not self.cfg.TRAINER.CACHE_VIEWS:
            return super().run_epoch()
        with self.image_features.serve("train_loader_x", views=True):
            super().run_epoch()

    def test(self, split=None):
        self._prepared = None  # it may count what an evaluation sees
        with self.image_features.serve("val_loader", "test_loader"):
            return super().test(split)

    def features_of(self, images):
        """Unit features [B, E] of images [B, 3, R, R], or of raw features [B, E] from the cache."""
        return unit(images) if images.dim() == 2 else self.clip.encode_image(images)

    def encode_image(self, images):
        """``features_of`` a training batch, with gradients where a recipe trains layers of the image encoder."""
        with torch.set_grad_enabled(self.trains_encoder):
            return self.features_of(images)

    def whole_batch(self, rows):
        """Features or labels of all processes' parts of the current batch, from those of this process."""
        if parallel.world_size() == 1:
            return rows
        doors = ("encode_image", "features_of")
        own = [door for door in doors if getattr(type(self), door) is not getattr(PromptTrainer, door)]
        if self._whole_size is None or (own and rows.requires_grad):
            what = "data loaders of its own" if self._whole_size is None else f"something to learn in its own {own[0]}"
            raise UserError(f"{type(self).__name__} has {what}: start it with python in place of torchrun")
        return parallel.gather(rows, parallel.sizes(self._whole_size))

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        self._prepared = None
        loss, logits, parts = self.loss(self.whole_batch(self.encode_image(images)), labels)
        self.backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), **{k: v.item() for k, v in parts.items()}, "acc": compute_accuracy(logits, labels)[0].item()}

    def backward_and_update(self, loss, max_norm=0.0):
        """One optimiser step, through the loss scaler where products are in fp16; gradients clipped if ``max_norm`` > 0."""
        self.detect_anomaly(loss)
        self.model_zero_grad()
        self.scaler.scale(loss).backward()
        self.step(max_norm)

    def step(self, max_norm=0.0):
        """The optimiser's part of ``backward_and_update``."""
        if max_norm > 0:
            self.scaler.unscale_(self.optim)
            nn.utils.clip_grad_norm_(self.learner.parameters(), max_norm)
        self.scaler.step(self.optim)
        self.scaler.update()

    def parse_batch_train(self, batch):
        """This process' images [b, 3, R, R], the whole batch's labels [B]; b = B where there is one process."""
        self._whole_size = batch.get("whole_size")
        images, labels = (batch[key].to(self.device, non_blocking=True) for key in ("img", "label"))
        return images, self.whole_batch(labels)

    parse_batch_test = parse_batch_train

    @torch.no_grad()
    def model_inference(self, images):
        if self._prepared is None:
            self._prepared = self.prepare()
        return self.logits(self.whole_batch(self.features_of(images)), self._prepared)

    def adapt_state_dict(self, name, state_dict):
        """Published checkpoints also hold the frozen token vectors of the training classes: dropped."""
        return {key: value for key, value in state_dict.items() if not key.startswith("token_")}

    def load_model(self, directory, epoch=None):
        self._prepared = None
        if self.learner is not None:
            super().load_model(directory, epoch)

    def resume_model_if_exist(self, directory):
        self._prepared = None
        epochs = super().resume_model_if_exist(directory)
        if parallel.from_main(epochs) != epochs:
            raise UserError(f"the processes of this run don't see the same checkpoints in {directory}")
        return epochs
