"""KgCoOp: CoOp near the hard templates (Yao et al., Visual-Language Prompt Tuning with Knowledge-guided Context, 2023)."""

import torch.nn.functional as F

from dassl.config import key, section
from dassl.config.schema import UNREAD
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_lr_scheduler
from learning.dataset import hand_template

from .coop import CoOp

READERS = "KgCoOp, ExtrasLinearProbeKgCoOp"
WORDS = "a photo of a"  # the published code starts from these whatever CTX_INIT says


@TRAINER_REGISTRY.register()
class KgCoOp(CoOp):
    """Cross-entropy + W · mean over classes of (1 - cosine of learned and template text feature).

    ``TRAINER.KGCOOP.DOUBLE_SCHEDULER`` reproduces the version that the published numbers were made with: two cosine schedulers
    on one optimiser, so that after the warm-up the learning rate falls with cos² in place of cos.
    """

    own_start = WORDS
    takes_several_labels = True

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.COOP.W = key(8.0, "weight of the knowledge-guided term", low=0.0, high=1e6, reader=READERS)
        cfg.TRAINER.COOP.ALPHA = key(1.0, "of the repositories' files, whose code doesn't read it either", reader=UNREAD)
        cfg.TRAINER.KGCOOP = section(
            DOUBLE_SCHEDULER=key(False, "square the cosine, as two schedulers on one optimiser do", reader=READERS)
        )

    def initial_words(self):
        return WORDS if self.options.CTX_INIT else None

    def build_learner(self, classnames):
        template = hand_template(self.cfg, "KgCoOp")
        print(f'Text features to stay near: "{template}"')
        self.template_features = self.hard_features([template], classnames)[0]  # [C, E]
        return super().build_learner(classnames)

    def build_schedule(self):
        return build_lr_scheduler(self.optim, self.cfg.OPTIM, power=2 if self.cfg.TRAINER.KGCOOP.DOUBLE_SCHEDULER else 1)

    def adapt_state_dict(self, name, state_dict):
        """Published checkpoints also hold a meta-net and bias vectors that the method never uses: dropped."""
        state_dict = super().adapt_state_dict(name, state_dict)
        return {k: v for k, v in state_dict.items() if k != "bias_vectors" and not k.startswith("meta_net.")}

    def distance(self, text_features):
        """1 - mean cosine of the classes' text features [C, E] and those of the template."""
        return 1 - F.cosine_similarity(text_features, self.template_features, dim=1, eps=1e-7).mean()

    def loss(self, image_features, labels):
        features = self.text_features()
        logits = self.logits(image_features, features)
        ce = self.class_loss(logits, labels)
        distance = self.distance(features)
        return ce + self.options.W * distance, logits, {"loss_ce": ce, "loss_kg": distance}
