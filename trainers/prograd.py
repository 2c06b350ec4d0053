"""ProGrad: CoOp whose gradient never works against zero-shot CLIP (Zhu et al., Prompt-aligned Gradient, ICCV 2023)."""

import torch
import torch.nn.functional as F

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning.dataset import hand_template

from .coop import CoOp


@TRAINER_REGISTRY.register()
class ProGrad(CoOp):
    """Descends the cross-entropy; where that gradient opposes the teacher's, its part along the teacher's is removed.

    LOSS.NAME: ``prograd`` (LAMBDA times that part is removed, parameter by parameter) or ``kd`` (plain distillation,
    (1 - ALPHA) · cross-entropy + ALPHA · teacher loss). LOSS.T is the teacher's temperature.
    """

    own_start = "the data set's template"

    @staticmethod
    def extend_cfg(cfg):
        cfg.LOSS = section(
            NAME=key("prograd", "what the teacher is for", choices=("prograd", "kd"), reader="ProGrad"),
            LAMBDA=key(1.0, "how much of that part is removed", low=0.0, high=1e6, reader="ProGrad"),
            ALPHA=key(0.0, "weight of the teacher's loss in kd", low=0.0, high=1.0, reader="ProGrad"),
            T=key(1.0, "temperature of the teacher", above=0.0, high=1e6, reader="ProGrad"),
        )

    def initial_context(self):
        """N_CTX vectors, the last of which are tokens of the dataset's template; zeros before them.

        The published code counts the template's words and learns so many of its tokens. A comma is a token and no word, so
        "a type of pet, a photo of a" (8 words, 9 tokens) leaves its last token frozen before the class name.
        """
        n_ctx = self.options.N_CTX
        if not self.options.CTX_INIT:
            return n_ctx, None, " ".join(["X"] * n_ctx)
        words = self.template.partition("{}")[0].strip()
        ids, count = self.clip.tokenizer.encode(words), len(words.split())
        if count > n_ctx:
            raise UserError(f'TRAINER.COOP.N_CTX {n_ctx} is too small: the template "{words}" alone has {count} words')
        self.frozen_tokens = ids[count:]
        init = torch.zeros(n_ctx, self.clip.width, device=self.device)
        init[n_ctx - count :] = self.clip.text.embed(torch.tensor(ids[:count], device=self.device))
        return n_ctx, init, " ".join(["X"] * (n_ctx - count) + [words])

    def build_learner(self, classnames):
        self.template = hand_template(self.cfg, "ProGrad")
        self.template_features = self.hard_features([self.template], classnames)[0]  # [C, E], the teacher
        return super().build_learner(classnames)

    def teacher_loss(self, logits, image_features):
        """Soft cross-entropy -Σ t log s with the zero-shot teacher's probabilities t."""
        T = self.cfg.LOSS.T
        target = (super().logits(image_features, self.template_features) / T).softmax(dim=-1)
        return F.cross_entropy(logits / T, target) * T * T

    def loss(self, image_features, labels):
        logits = self.logits(image_features, self.text_features())
        ce, kl = F.cross_entropy(logits, labels), self.teacher_loss(logits, image_features)
        parts = {"xe_loss": ce, "kl_loss": kl}
        if self.cfg.LOSS.NAME == "kd":
            return (1 - self.cfg.LOSS.ALPHA) * ce + self.cfg.LOSS.ALPHA * kl, logits, parts
        return ce, logits, parts

    def backward_and_update(self, loss, parts):
        if self.cfg.LOSS.NAME == "kd":
            return super().backward_and_update(loss, parts)
        ce, kl = parts["xe_loss"], parts["kl_loss"]
        self.detect_anomaly(ce)
        self.detect_anomaly(kl)
        parameters = list(self.learner.parameters())
        teacher = torch.autograd.grad(self.scaler.scale(kl), parameters, retain_graph=True)
        own = torch.autograd.grad(self.scaler.scale(ce), parameters)
        self.model_zero_grad()
        for p, g, t in zip(parameters, own, teacher):
            p.grad = project(g, t, self.cfg.LOSS.LAMBDA)
        self.step()


def project(gradient, teacher, weight):
    """``gradient`` without ``weight`` times its part along ``teacher``, where the two point against each other."""
    direction = teacher / teacher.norm().clamp_min(torch.finfo(teacher.dtype).tiny)
    along = torch.dot(gradient.flatten(), direction.flatten())
    return gradient - weight * along * direction if along < 0 else gradient
