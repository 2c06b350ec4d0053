"""CLAP and ZS-LP: linear probes that start from CLIP's text features, and the adapters that their authors compare with.

Silva-Rodriguez et al., A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models, CVPR 2024; repository CLAP.
"""

import itertools
import re

import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.base_text import BaseText
from learning.grid_search import SearchesOnTest
from learning.keys import enhanced_base, precision
from learning.support_rows import OnSupportRows
from prompting import unit

KINDS = ("RANDOM", "ZS", "TRenh", "TR", "ClipA", "TipA-f-", "TipA", "CrossModal")
# the same for all data sets, as published: TR's α, ClipA's ratio, TipA's α and β
SETTINGS = {
    "TR": {"alpha": 0.5},
    "ClipA": {"ratio": 0.2},
    "TipA": {"alpha": 1.0, "beta": 1.0},
    "TipA-f-": {"alpha": 1.0, "beta": 1.0},
}
SEARCH = "_grid_search"
RATES = (0.1, 0.01, 0.001)
GRIDS = {  # of the repository's search on test images, in its order
    "TR": {"alpha": [0.2 * k for k in range(1, 6)], "lr": RATES},
    "ClipA": {"lr": RATES, "ratio": [0.2 * k for k in range(1, 5)]},
    "TipA": {"alpha": [1 + 2.5 * k for k in range(20)], "beta": [1 + 1.4 * k for k in range(20)]},
    "TipA-f-": {"alpha": [1.0 + 5 * k for k in range(10)], "beta": [1 + 2.8 * k for k in range(10)], "lr": RATES[:2]},
}
METRICS, OPTIONS = ("l2", "cosine"), ("balanced", "corrected", "constant", "adaptative")

MEANING_OF_INIT = f"what is learned: {', '.join(KINDS)}; {SEARCH} behind it: the best of a grid on the test images"
MEANING_OF_CONSTRAINT = f"what holds it near the text features: none, or l2 or cosine, with {', '.join(OPTIONS)} behind it"


def _check_init(text):
    if text in KINDS or (text.endswith(SEARCH) and text.removesuffix(SEARCH) in (*GRIDS, "TRenh")):
        return ""
    return f"must be one of {', '.join(KINDS)}, or one of {', '.join(GRIDS)} with {SEARCH} behind it"


def words_of(constraint):
    """The words of a CONSTRAINT such as "l2_adaptative", which may stand in any order; none of "none"."""
    return [word for word in (*METRICS, *OPTIONS) if word in constraint]


def _check_constraint(text):
    words = words_of(text)
    rest = re.sub("|".join(words), "", text) if words else text
    if text == "none" or (len(set(words) & set(METRICS)) == 1 and not rest.strip("-_+ ")):
        return ""
    return f"must be none, or l2 or cosine with any of {', '.join(OPTIONS)} behind it, such as l2_balanced"


def first_multipliers(own, labels, count, words):
    """λ [C] of probabilities [n] that rows have of their own ``labels`` [n], of which classes have ``count`` [C]."""
    mean = torch.zeros(len(count), dtype=own.dtype, device=own.device).index_add_(0, labels, own) / count
    if "balanced" in words:
        return torch.ones_like(mean)
    mean = mean * len(mean) / mean.sum() if "corrected" in words else mean
    return mean.mean().expand_as(mean).clone() if "constant" in words else mean


def grid_of(init):
    """Settings of an INIT's search; [] where there is none."""
    if not init.endswith(SEARCH):
        return []
    grid = GRIDS[init.removesuffix(SEARCH).removesuffix("enh")]
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def check_constraint(init, constraint):
    """UserError, or a line, for a constraint where there are no prototypes."""
    if constraint != "none" and init == "CrossModal":
        raise UserError(
            f"TRAINER.ADAPTER.CONSTRAINT {constraint}: CrossModal has rows of text, for which there is none; set it to none"
        )
    if constraint != "none" and init.startswith(("ClipA", "TipA")):
        print(f"TRAINER.ADAPTER.CONSTRAINT {constraint} has no effect: INIT {init} learns no prototypes")


class AdapterLearner(nn.Module):
    """What an INIT learns; names as in the repository CLAP.

    Attributes:
        base_text_features: [C, E], fixed.
        prototypes: [C, E], weights of a classifier, or (TR) what is added to the text features.
        mlp: ClipA's net on the image feature.
        cache_keys, cache_values: TipA's, [N, E] of N training images and [N, C], their one-hot labels.
    """

    def __init__(self, base, kind, images):
        super().__init__()
        (C, E), base = base.shape, base.cpu()
        self.register_buffer("base_text_features", base)
        if kind == "ClipA":
            first, second = nn.Linear(E, E // 4, bias=False), nn.Linear(E // 4, E, bias=False)
            self.mlp = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        elif kind.startswith("TipA"):
            self.cache_keys = nn.Parameter(torch.zeros(images, E))
            self.register_buffer("cache_values", torch.zeros(images, C))
        elif kind == "RANDOM":
            self.prototypes = nn.Parameter(nn.init.kaiming_normal_(torch.empty(C, E)))
        else:
            self.prototypes = nn.Parameter(torch.zeros(C, E) if kind.startswith("TR") else base.clone())
        self.kind, self.learns_prototypes = "TR" if kind == "TRenh" else kind, hasattr(self, "prototypes")
        self.setting = dict(SETTINGS.get(self.kind, {}))

    def text_features(self):
        """Unit vectors of the classes [C, E]."""
        if not self.learns_prototypes:
            return unit(self.base_text_features)
        if self.kind == "TR":
            return unit(self.base_text_features + self.setting["alpha"] * self.prototypes)
        return unit(self.prototypes)

    def logits(self, features, text, scale):
        """Features [B, E] as long as CLIP gives them, as queries of TipA's unit keys, too; unit vectors of the classes [C, E]."""
        if self.kind == "ClipA":
            ratio = self.setting["ratio"]
            features = ratio * self.mlp(features) + (1 - ratio) * features
        logits = scale * unit(features) @ text.t()
        if self.kind.startswith("TipA"):
            affinity = features @ unit(self.cache_keys).t()
            alpha, beta = self.setting["alpha"], self.setting["beta"]
            logits = logits + alpha * (beta * (affinity - 1)).exp() @ self.cache_values
        return logits

    def distance(self, metric):
        """Distances [C] of the prototypes from the text features: squared, or 1 - cosine."""
        if metric == "l2":
            return (self.prototypes - self.base_text_features).pow(2).sum(dim=1)
        return 1 - F.cosine_similarity(self.prototypes, self.base_text_features, dim=1)

    def take_cache(self, keys, values):
        """Other keys [N, E] and one-hot labels [N, C], of any N."""
        self.cache_keys.data = keys.to(self.cache_keys, copy=True)  # what is learned isn't what is trained on
        self.cache_values = values.to(self.cache_keys, copy=True)


@TRAINER_REGISTRY.register()
class ADAPTER(SearchesOnTest, OnSupportRows, BaseText, PromptTrainer):
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
    _multipliers, _penalty = None, None  # λ and ρ, [C] each

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.ADAPTER = section(
            PREC=precision(),
            INIT=key("ZS", MEANING_OF_INIT, kind=str, check=_check_init, binds=True),
            CONSTRAINT=key("l2", MEANING_OF_CONSTRAINT, kind=str, check=_check_constraint),
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

    @torch.no_grad()
    def start(self, features, labels):
        if self.kind.startswith("TipA"):
            self.learner.take_cache(features, F.one_hot(labels, self.num_classes))
        words = words_of(self.options.CONSTRAINT)
        if not words or not self.learner.learns_prototypes:
            return
        probability = self.logits(features, self.prepare()).softmax(dim=1)
        count = torch.bincount(labels, minlength=self.num_classes)
        if not count.all():
            name = self.dm.dataset.classnames[int(count.argmin())]
            raise UserError(f"the class {name!r} has no training image, so its weight in the constraint isn't defined")
        mean = first_multipliers(probability.gather(1, labels[:, None])[:, 0], labels, count, words)
        self._multipliers, self._penalty = mean, torch.zeros_like(mean)
        print(f"Multipliers of the constraint: from {mean.min():.3f} to {mean.max():.3f}, mean {mean.mean():.3f}")

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
        constraint = (self._multipliers * self.learner.distance(words_of(self.options.CONSTRAINT)[0])).mean()
        return ce + constraint, logits, {"loss_ce": ce, "constraint": constraint}

    @torch.no_grad()
    def outer_step(self):
        """A step of the multipliers: λ <- max(0, λ + ρ h), ρ <- h; h are squared distances, whatever the constraint's are."""
        h = self.learner.distance("l2")
        self._multipliers, self._penalty = (self._multipliers + self._penalty * h).clamp_min(0), h

    def after_epoch(self):
        if self._multipliers is not None and "adaptative" in self.options.CONSTRAINT:
            self.outer_step()
        super().after_epoch()

    # -- checkpoints -----------------------------------------------------------------------------------------------------------

    def checkpoint_extras(self):
        own = {"multipliers": self._multipliers, "penalty": self._penalty}
        return {**super().checkpoint_extras(), **{name: value.cpu() for name, value in own.items() if value is not None}}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        chosen = self.selection or {}
        self.learner.setting.update({name: chosen[name] for name in self.learner.setting.keys() & chosen.keys()})
        found = (extras.get(name) for name in ("multipliers", "penalty"))
        self._multipliers, self._penalty = (value if value is None else value.to(self.device) for value in found)

    def adapt_state_dict(self, name, state_dict):
        """Columns of classes in a cache are taken as rows are; a cache of another support set makes room for its keys."""
        values = state_dict.get("cache_values")
        if values is not None:
            state_dict = {**state_dict, "cache_values": values.t()}
        state_dict = super().adapt_state_dict(name, state_dict)
        if not self.learner.learns_prototypes:
            state_dict.pop("prototypes", None)  # the text features, in published files
        if values is not None:
            state_dict["cache_values"] = state_dict["cache_values"].t()
            if self.kind.startswith("TipA"):
                self.learner.take_cache(*(torch.zeros_like(state_dict[entry]) for entry in ("cache_keys", "cache_values")))
        return state_dict

    def unlearned_rows(self, entry, like):
        return super().unlearned_rows("base_text_features" if entry == "prototypes" and self.kind[:2] != "TR" else entry, like)
