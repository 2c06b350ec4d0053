"""PromptSRC: deep prompts of both encoders that stay near frozen CLIP (Khattak et al., Self-regulating Prompts, ICCV 2023)."""

import torch
import torch.nn.functional as F

from dassl.config import section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning
from learning.self_regularisation import SelfRegularised, logit_distance, regularisation_keys
from prompting import imagenet_templates, unit

from .vpt import IVLP, prompt_keys

TEACHER_TEMPLATES = 60  # the first ones of ImageNet's, for every data set, as published
AT_ONCE = 10  # templates that are encoded in one pass


@TRAINER_REGISTRY.register()
class PromptSRC(SelfRegularised, IVLP):
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
        cfg.TRAINER.PROMPTSRC = section(**prompt_keys(4), **regularisation_keys())

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

    def loss(self, image_features, labels):
        o, text, teacher = self.options, self.text_features(), self.teacher()
        image, image_teacher = image_features.unbind(dim=1)
        logits, logits_teacher = self.logits(image, text), self.logits(image_teacher, teacher)
        parts = {
            "loss_ce": F.cross_entropy(logits, labels),
            "l1_text": F.l1_loss(text, teacher),
            "l1_image": F.l1_loss(image, image_teacher),
            "kl_logits": logit_distance(logits, logits_teacher),
        }
        total = parts["loss_ce"] + o.TEXT_LOSS_WEIGHT * parts["l1_text"] + o.IMAGE_LOSS_WEIGHT * parts["l1_image"]
        return total + parts["kl_logits"], logits, parts
