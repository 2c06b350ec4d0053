"""PromptSRC: deep prompts of both encoders that stay near frozen CLIP (Khattak et al., Self-regulating Prompts, ICCV 2023)."""

import math

import torch
import torch.nn.functional as F

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning
from prompting import imagenet_templates, unit

from .vpt import IVLP, prompt_keys

TEACHER_TEMPLATES = 60  # the first ones of ImageNet's, for every data set, as published
AT_ONCE = 10  # templates that are encoded in one pass


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """IVLP's prompts; the loss ties features and logits to those of CLIP without prompts.

    L = CE + TEXT_LOSS_WEIGHT · mean|t - t0| + IMAGE_LOSS_WEIGHT · mean|v - v0| + KL(p0 ‖ p) / C, with unit features t, v, their
    teachers t0 (mean over 60 templates) and v0 (the same augmented image), and class probabilities p, p0; KL is the mean over
    the batch. What is evaluated and saved at the end is the mean of every epoch's prompts, weighted by a Gaussian over epochs
    (GPA_MEAN, GPA_STD).
    """

    section = "PROMPTSRC"
    image_learning = ImageLearning.PROMPTS  # without visual prompts, too, it needs the pixels: for its teacher
    epochs_only_in_schedule = False  # it decides how much each epoch weighs

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.PROMPTSRC = section(
            **prompt_keys(4),
            TEXT_LOSS_WEIGHT=key(25.0, "weight of the text features' distance to the teacher's", low=0.0, high=1e6),
            IMAGE_LOSS_WEIGHT=key(10.0, "weight of the image features' distance to the teacher's", low=0.0, high=1e6),
            GPA_MEAN=key(15.0, "epoch at which the prompts weigh most in what is evaluated", low=-1e6, high=1e6),
            GPA_STD=key(1.0, "standard deviation of these weights, in epochs", above=0.0, high=1e6),
        )

    def build_learner(self, classnames):
        self.aggregate = {}  # weighted sum of the prompts so far; the engine keeps it with checkpoints to resume from
        self._teacher = None
        return super().build_learner(classnames)

    def teacher(self):
        """Unit text features [C, E] of the teacher, computed when training first asks for them."""
        if self._teacher is None:
            templates = imagenet_templates()[:TEACHER_TEMPLATES]
            parts = [templates[i : i + AT_ONCE] for i in range(0, len(templates), AT_ONCE)]
            names = self.dm.dataset.classnames
            self._teacher = unit(torch.cat([self.hard_features(part, names, raw=True) for part in parts]).mean(dim=0))
        return self._teacher

    def encode_image(self, images):
        """Unit features [b, E]; in training [b, 2, E], the second ones the teacher's."""
        features = super().encode_image(images)
        return torch.stack([features, self.clip.encode_image(images)], dim=1) if self.learner.training else features

    def loss(self, image_features, labels):
        o, text, teacher = self.options, self.text_features(), self.teacher()
        image, image_teacher = image_features.unbind(dim=1)
        logits, logits_teacher = self.logits(image, text), self.logits(image_teacher, teacher)
        parts = {
            "loss_ce": F.cross_entropy(logits, labels),
            "l1_text": F.l1_loss(text, teacher),
            "l1_image": F.l1_loss(image, image_teacher),
            "kl_logits": F.kl_div(logits.log_softmax(-1), logits_teacher.log_softmax(-1), reduction="mean", log_target=True),
        }
        total = parts["loss_ce"] + o.TEXT_LOSS_WEIGHT * parts["l1_text"] + o.IMAGE_LOSS_WEIGHT * parts["l1_image"]
        return total + parts["kl_logits"], logits, parts

    def epoch_weights(self):
        """Weights [MAX_EPOCH] of the epochs' prompts; their sum is 1."""
        mean, std = self.options.GPA_MEAN, self.options.GPA_STD
        exponents = [-((epoch - mean) ** 2) / (2 * std**2) for epoch in range(1, self.max_epoch + 1)]
        highest = max(exponents)
        densities = [math.exp(e - highest) for e in exponents]
        return [d / sum(densities) for d in densities]

    @torch.no_grad()
    def after_epoch(self):
        weight = self.epoch_weights()[self.epoch]
        for name, p in self.learner.named_parameters():
            self.aggregate[name] = self.aggregate.get(name, 0) + weight * p
        if self.epoch + 1 == self.max_epoch:
            print("The prompts are now the mean over all epochs")
            for name, p in self.learner.named_parameters():
                p.copy_(self.aggregate[name])
        super().after_epoch()
