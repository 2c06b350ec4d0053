"""TCP: from an upper layer on, each class has context vectors made from its own text feature (Yao et al., TCP, CVPR 2024)."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning.dataset import dataset_class, hand_template
from prompting import Insertions, QuickGELU, context_programs, learned

from .coop import ContextLearner, CoOp


class ClassAwareLearner(ContextLearner):
    """``ctx`` [M, D] and a net E -> E / 4 -> M · D that makes a class' own vectors of its text feature."""

    def __init__(self, shape, init, embed_dim):
        super().__init__(shape, init)
        hidden = embed_dim // 4
        layers = OrderedDict(
            linear1=nn.Linear(embed_dim, hidden), act=QuickGELU(), linear2=nn.Linear(hidden, shape[0] * shape[1])
        )
        self.meta_net = nn.Sequential(layers)


@TRAINER_REGISTRY.register()
class TCP(CoOp):
    """Cross-entropy + W · (1 - mean cosine of learned and template text features); reads TRAINER.COOP's keys, too.

    TRAINER.COOP.W isn't read: in the published code the weight is fixed.
    """

    own_start = "a photo of a"
    takes_several_labels = True
    published_names = {r"(?:prompt_learner\.)?(ctx|meta_net\.linear\d\.\w+)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.TCP = section(
            W=key(8.0, "weight of the distance to the template's text features", low=0.0, high=1e6, reader="TCP"),
            LAYER=key(
                8,
                "layer of the text tower, counted from 0, before which the class-aware vectors enter",
                low=1,
                high=1000,
                reader="TCP",
            ),
        )

    def initial_words(self):
        return self.own_start if self.options.CTX_INIT else None

    def build_learner(self, classnames):
        o, layer, layers = self.options, self.cfg.TRAINER.TCP.LAYER, len(self.clip.text.blocks)
        if layer >= layers:
            raise UserError(
                f"TRAINER.TCP.LAYER {layer}: the text tower has {layers} layers, so no class-aware vector would enter"
            )
        if o.CSC or o.CLASS_TOKEN_POSITION != "end":
            raise UserError("TCP has one context for all classes, before the class name: CSC False, CLASS_TOKEN_POSITION end")
        n, init, words = self.initial_context()
        template = hand_template(self.cfg, "TCP")
        rest = getattr(dataset_class(self.cfg), "templates", {}).get("TCP, after the context", "{}.")
        print(f'Initial context: "{words}", followed by "{rest}"\nText features to stay near: "{template}"')
        self.template_features = self.hard_features([template], classnames)[0]  # [C, E]
        programs = context_programs(classnames, n, tokenizer=self.clip.tokenizer, rest=rest)
        own = [[0, *(learned(n * c + k) for k in range(n)), *range(1 + n, len(p))] for c, p in enumerate(programs)]
        self.prompt_plan = self.plan([programs], {layer: [own]})
        return ClassAwareLearner((n, self.clip.width), init, self.clip.embed_dim)

    def class_tokens(self):
        """The classes' own vectors [C, M · D]."""
        return self.learner.meta_net(self.template_features)

    def text_features(self):
        rows = {self.cfg.TRAINER.TCP.LAYER: self.class_tokens().reshape(-1, self.clip.width)}
        return self.encode(self.prompt_plan, self.learner.ctx, insertions=Insertions(rows=rows))[0]

    def loss(self, image_features, labels):
        features = self.text_features()
        logits = self.logits(image_features, features)
        ce = self.class_loss(logits, labels)
        distance = 1 - F.cosine_similarity(features, self.template_features, dim=1, eps=1e-7).mean()
        return ce + self.cfg.TRAINER.TCP.W * distance, logits, {"loss_ce": ce, "loss_kg": distance}
