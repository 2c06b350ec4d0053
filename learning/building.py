"""How a method's model comes to be: CLIP, the learner, its optimiser and schedule."""

from typing import Any

import torch

from basics import UserError
from dassl.engine.checkpoint import check_classes
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights, parallel
from prompting import load_clip, tokenizer_for
from prompting.classnames import check_classnames, names_never_met, never_met, remarks_on_names

from .dataset import dataset_class
from .preprocessing import check_size


class Building:
    """Part of PromptTrainer: the engine's ``build_model``."""

    def build_model(self):
        cfg, backbone, precision = self.cfg, self.cfg.MODEL.BACKBONE, self.options.PREC
        if self.names_classes:
            self.check_names(tokenizer_for(backbone.NAME, backbone.PATH))
        print(f"Loading CLIP (backbone: {backbone.NAME})")
        with parallel.main_first():  # it may download weights
            self.clip = load_clip(backbone.NAME, backbone.PATH, precision, self.device, backbone.ACTIVATION)
        print(f"Activation: {self.clip.activation} (says {self.clip.weights.get('activation_said_by', 'the model')})")
        if precision == "fp16" and self.clip.dtype == torch.float32:
            print("PREC fp16 on a CPU: computing in fp32")
        check_size(cfg, self.clip)
        self.check_words()
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
        if not count:
            raise UserError(
                f"{cfg.TRAINER.NAME}: the settings in TRAINER.{self.section} leave nothing to learn in {cfg.MODEL.BACKBONE.NAME}"
            )
        print(f"CLIP is frozen but for what the method learns: {count:,} parameters")
        self.register_learner()

    def check_names(self, tokenizer):
        """UserError for classes that the text encoder can't tell apart; a line about names that are no words."""
        names = self.dm.dataset.classnames
        check_classnames(names, published=bool(getattr(dataset_class(self.cfg), "sources", ())), tokenizer=tokenizer)
        for line in remarks_on_names(names):
            print(line)

    def check_words(self):
        """UserError where the model never met words of class names; a warning where a run shows how data are read."""
        self.names_never_met = names_never_met(self.dm.dataset.classnames, self.clip) if self.names_classes else []
        if self.names_never_met:
            if not self.warns_of_names:
                raise UserError(never_met(self.names_never_met))
            print(f"WARNING: {never_met(self.names_never_met)}")

    def results_extras(self):
        """Class names with words that the model never met, if there are any."""
        return {**super().results_extras(), **({"names_never_met": self.names_never_met} if self.names_never_met else {})}

    def register_learner(self):
        """Give the learner an optimiser and a schedule, and the engine all three; replaces an earlier learner."""
        self.add_label_bias()
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
