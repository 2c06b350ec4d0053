"""CLAP and ZS-LP: linear probes that start from CLIP's text features, and the adapters that their authors compare with.

Silva-Rodriguez et al., A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models, CVPR 2024; repository CLAP.
"""

import torch
import torch.nn.functional as F

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.base_text import BaseText
from learning.clap_learner import AdapterLearner, CachedClasses
from learning.clap_settings import (
    MEANING_OF_CONSTRAINT,
    MEANING_OF_INIT,
    SEARCH,
    check_constraint,
    constraint_error,
    grid_of,
    init_error,
    words_of,
)
from learning.grid_search import SearchesOnTest
from learning.keys import enhanced_base, precision
from learning.multipliers import Multipliers
from learning.support_rows import OnSupportRows


@TRAINER_REGISTRY.register()
class ADAPTER(CachedClasses, Multipliers, SearchesOnTest, OnSupportRows, BaseText, PromptTrainer):
    """Cross-entropy, with CONSTRAINT + mean over classes of λ_c · distance of a class's prototype from its text feature.

    λ_c is the mean zero-shot probability of class c over its own support rows: CLAP is INIT ZS with CONSTRAINT l2, ZS-LP INIT ZS
    without one. The support set is encoded in VIEWS augmented views, all of them rows to train on; TipA takes the mean of an
    image's views as a key. With TR, too, the distance is that of ``prototypes`` from the text features, as published.

    "balanced" sets all λ to 1, "corrected" scales them to the mean 1, "constant" gives all their mean, and "adaptative" changes
    them after each epoch (``outer_step``). An INIT with "_grid_search" behind it is the repository's upper bound.
    """

    section = "ADAPTER"
    model_name = "adapter"
    class_rows = ("base_text_features", "prototypes", "cache_values")
    published_names = {r"(?:adapter\.)?(base_text_features|prototypes|mlp\.[02]\.weight|cache_keys|cache_values)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.ADAPTER = section(
            PREC=precision(),
            INIT=key("ZS", MEANING_OF_INIT, kind=str, check=init_error, binds=True),
            CONSTRAINT=key("l2", MEANING_OF_CONSTRAINT, kind=str, check=constraint_error),
            VIEWS=key(20, "augmented views of each training image that are encoded, once", low=1, high=1_000_000),
            ENHANCED_BASE=enhanced_base(),
        )

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        o = cfg.TRAINER.ADAPTER
        if o.INIT == "TRenh" and o.ENHANCED_BASE == "none":
            print("TRAINER.ADAPTER.INIT TRenh without TRAINER.ADAPTER.ENHANCED_BASE is TR")
        check_constraint(o.INIT, o.CONSTRAINT)

    @property
    def kind(self):
        return self.options.INIT.removesuffix(SEARCH)

    def build_learner(self, classnames):
        self.text_rows = self.base_text(classnames)  # [T, C, E]
        if self.kind == "TipA":  # no training but the step that the published code takes
            self.max_epoch = 1
        elif self.options.INIT == f"TipA-f-{SEARCH}":
            self.max_epoch = 20
        return self.new_learner()

    def new_learner(self):
        return AdapterLearner(self.text_rows.mean(dim=0), self.kind, max(len(self.dm.dataset.train_x), 1))

    def grid(self):
        return grid_of(self.options.INIT)

    def begin(self, setting):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(max(self.cfg.SEED, 0))
            self.learner = self.new_learner()
        self.learner.setting.update({name: value for name, value in setting.items() if name != "lr"})
        self.register_learner()

    # -- the support set -------------------------------------------------------------------------------------------------------

    def support_rows(self):
        features, labels = self.support(self.options.VIEWS)  # [V, N, E], [N]
        if self.kind.startswith("TipA"):
            return features.mean(dim=0), labels
        V, N, E = features.shape
        features, labels = features.reshape(V * N, E), labels.repeat(V)
        if self.kind != "CrossModal":
            return features, labels
        T, C, _ = self.text_rows.shape
        drawn = torch.randint(T * C, (V * N,), generator=self.generator("text rows")).to(labels.device)
        return torch.cat([features, self.text_rows.reshape(T * C, E)[drawn]]), torch.cat([labels, drawn % C])

    def order(self, count):
        if self.kind != "CrossModal":
            return super().order(count)
        return torch.randint(count, (count // 2,), generator=self.generator("rows", self.epoch))  # with repetitions

    def start(self, features, labels):
        if self.kind.startswith("TipA"):
            self.learner.take_cache(features, F.one_hot(labels, self.num_classes))
        if words_of(self.options.CONSTRAINT) and self.learner.learns_prototypes:
            self.start_multipliers(features, labels)

    # -- what is computed ------------------------------------------------------------------------------------------------------

    def text_features(self):
        return self.learner.text_features()

    def logits(self, image_features, prepared):
        return self.learner.logits(image_features, prepared, self.clip.logit_scale)

    def loss(self, image_features, labels):
        logits = self.logits(image_features, self.text_features())
        ce = F.cross_entropy(logits, labels)
        if self._multipliers is None:
            return ce, logits, {}
        constraint = self.constraint()  # mean of λ_c · distance
        return ce + constraint, logits, {"loss_ce": ce, "constraint": constraint}

    # -- checkpoints -----------------------------------------------------------------------------------------------------------

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        chosen = self.selection or {}
        self.learner.setting.update({name: chosen[name] for name in self.learner.setting.keys() & chosen.keys()})

    def unlearned_rows(self, entry, like):
        return super().unlearned_rows("base_text_features" if entry == "prototypes" and self.kind[:2] != "TR" else entry, like)
