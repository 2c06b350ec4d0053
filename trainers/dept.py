"""DePT: a classifier on transformed features learns the known classes beside the prompts (Zhang et al., DePT, CVPR 2024)."""

import torch
import torch.nn.functional as F

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning.class_rows import ClassRows
from learning.decoupled_learner import DecoupledLearner
from learning.support import RawFeatures
from prompting import unit

from .coop import CoOp
from .kgcoop import KgCoOp

READERS = "ExtrasLinearProbeCoOp, ExtrasLinearProbeKgCoOp"
FASTER = ("film", "linear_probe")  # beginnings of the names of what learns at OPTIM.LR · OPTIM.LR_EXP


class Decoupled(ClassRows, RawFeatures):
    """Part of both methods, before CoOp or KgCoOp among a class's bases; w is LINEAR_PROBE.WEIGHT.

    Loss: (1 - w) · CE of the prompts' cosines + w · CE of the classifier, which sees the transformed features of the images
    and of their classes' texts, both as long as CLIP gives them. Logits are fused in the same way where the classifier knows
    all classes, else they are the prompts' alone.
    """

    model_name = "PromptLearner"
    class_rows = ("linear_probe_proj.weight", "linear_probe_proj.bias")
    published_names = {
        r"(?:prompt_learner\.)?(ctx)": r"\1",
        r"(film_lp_(?:img|text)\.(?:scale|bias)|linear_probe_proj\.(?:weight|bias))": r"\1",
    }

    def build_learner(self, classnames):
        o, transforms = self.cfg.TRAINER.LINEAR_PROBE, self.cfg.TRAINER.FILM.LINEAR_PROBE
        self.fused = self.cfg.DATASET.SUBSAMPLE_CLASSES != "new"
        ctx = super().build_learner(classnames).ctx
        return DecoupledLearner(ctx, self.clip.embed_dim, len(classnames), transforms, o.TYPE == "linear")

    def param_groups(self):
        """The prompts' parameters at OPTIM.LR, all others at LR_EXP times that; the warm-up's rate is the same for both."""
        rates, groups = {False: self.cfg.OPTIM.LR, True: self.cfg.OPTIM.LR * self.cfg.OPTIM.LR_EXP}, {False: [], True: []}
        for name, parameter in self.learner.named_parameters():
            groups[name.startswith(FASTER)].append(parameter)
        return [{"params": groups[faster], "lr": rates[faster]} for faster in groups if groups[faster]]

    def adapt_state_dict(self, name, state_dict):
        """Entries under our names; says whether the classifier knows the classes.

        A published checkpoint doesn't name its classes: as in its own code they are known where they are the base classes, or
        all of ImageNet or of one of its variants.
        """
        state_dict = super().adapt_state_dict(name, state_dict)
        data, own = self.cfg.DATASET, self.dm.dataset.classnames
        if self._trained_classes:
            self.fused = set(own) <= set(self._trained_classes)
        else:
            base, every = data.SUBSAMPLE_CLASSES == "base", data.SUBSAMPLE_CLASSES == "all"
            self.fused = base or (every and "ImageNet" in data.NAME)
            if not self.fused:  # rows of other classes
                state = self.learner.state_dict()
                state_dict.update({entry: torch.zeros_like(state[entry]) for entry in self.class_rows if entry in state})
        print("The classifier " + ("and the prompts decide" if self.fused else "doesn't know these classes: the prompts decide"))
        return state_dict

    def raw_text_features(self):
        """[C, E], as long as CLIP gives them."""
        return self.encode(self.prompt_plan, self.learner.ctx, raw=True)[0].to(self.learner.ctx.dtype)

    def text_features(self):
        return unit(self.raw_text_features())

    def prepare(self):
        return self.raw_text_features()

    def similarity(self, image_features, text_features):
        """Cosine logits [B, C] of features of any length."""
        return super().logits(unit(image_features), unit(text_features))

    def classified(self, image_features, text_features, labels=None):
        """Logits of the classifier: [B, C], in training with it [2B, C], the texts of ``labels`` before the images."""
        images, texts = self.learner.film_lp_img(image_features), self.learner.film_lp_text(text_features)
        if self.cfg.TRAINER.LINEAR_PROBE.TYPE == "similarity":
            return self.similarity(images, texts)
        return self.learner.linear_probe_proj(images if labels is None else torch.cat([texts[labels], images]))

    def logits(self, image_features, prepared):
        """Raw features [B, E] of images and [C, E] of texts -> [B, C]."""
        o = self.cfg.TRAINER.LINEAR_PROBE
        if not self.fused:
            return self.similarity(image_features, prepared)
        classified = self.classified(image_features, prepared)
        if not o.TEST_TIME_FUSION:
            return classified
        return (1 - o.WEIGHT) * self.similarity(image_features, prepared) + o.WEIGHT * classified

    def loss(self, image_features, labels):
        weight, text = self.cfg.TRAINER.LINEAR_PROBE.WEIGHT, self.raw_text_features()
        similarity, classified = self.similarity(image_features, text), self.classified(image_features, text, labels)
        parts = {
            "loss_ce": F.cross_entropy(similarity, labels),
            "loss_lp": F.cross_entropy(classified, labels.repeat(len(classified) // len(labels))),
        }
        total = (1 - weight) * parts["loss_ce"] + weight * parts["loss_lp"]
        for name, (share, value) in self.further_terms(text).items():
            total, parts[name] = total + share * value, value
        return total, (1 - weight) * similarity + weight * classified[-len(labels) :], parts

    def further_terms(self, text_features):
        """{name: (weight, value)} of a method's own terms of the loss."""
        return {}


@TRAINER_REGISTRY.register()
class ExtrasLinearProbeCoOp(Decoupled, CoOp):
    """DePT on CoOp."""

    @staticmethod
    def extend_cfg(cfg):
        cfg.OPTIM.LR_EXP = key(6.5, "factor on the rate of classifier and transforms", above=0.0, high=1e6, reader=READERS)
        cfg.TRAINER.LINEAR_PROBE = section(
            TYPE=key("linear", "a linear classifier, or cosines of the transformed features",
                     choices=("linear", "similarity"), reader=READERS),
            WEIGHT=key(0.7, "w, share of the classifier in loss and logits", low=0.0, high=1.0, reader=READERS),
            TEST_TIME_FUSION=key(True, "known classes are predicted by prompts and classifier, not by it alone", reader=READERS),
        )  # fmt: skip
        cfg.TRAINER.FILM = section(
            LINEAR_PROBE=key(True, "the classifier's features are transformed channel by channel", reader=READERS)
        )


@TRAINER_REGISTRY.register()
class ExtrasLinearProbeKgCoOp(Decoupled, KgCoOp):
    """DePT on KgCoOp, whose distance is added with the weight TRAINER.COOP.W; the published file has 2."""

    def further_terms(self, text_features):
        return {"loss_kg": (self.options.W, self.distance(text_features))}
