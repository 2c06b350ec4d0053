"""Tip-Adapter: a key-value cache of the training images beside zero-shot CLIP (Zhang et al., Tip-Adapter, ECCV 2022)."""

import torch.nn.functional as F

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.cache_search import PUBLISHED, SearchesWeights
from learning.iterations import ByIterations
from learning.key_value_cache import Cache, KeyValueCache
from learning.keys import precision
from learning.published_cache import PublishedCache
from learning.support import WithoutEpochs
from prompting import unit

SCALE = 100.0  # of the cosines with texts, whatever CLIP's own is


class CacheModel(PublishedCache, SearchesWeights, KeyValueCache, PromptTrainer):
    """What both variants share. The logits of a unit feature f and unit texts t_c, keys k_i of the class y_i:

    100 f·t_c + α Σ_{i: y_i = c} exp(-β (1 - f·k_i)). A key is the unit mean over AUGMENT_EPOCH views of the image's feature.
    Classes without a key have their text's logit alone.
    """

    section = "TIPADAPTER"
    model_name = "tip_adapter"

    def build_learner(self, classnames):
        o = self.options
        self.class_features = self.class_text(classnames)  # [C, E]
        return Cache(max(len(self.dm.dataset.train_x), 1), self.clip.embed_dim, o.INIT_ALPHA, o.INIT_BETA)

    def text_features(self):
        return self.class_features

    def prepare(self):
        return self.class_features, self.values()

    def scores(self, features, prepared):
        """(logits of the texts [n, C], cosines with the keys [n, N], one-hot labels [N, C]) of features of any length."""
        features, (text, values) = unit(features), prepared
        return SCALE * features @ text.t(), features @ self.learner.keys.t(), values

    def logits(self, image_features, prepared):
        of_text, cosines, values = self.scores(image_features, prepared)
        return of_text + self.learner.alpha * (self.learner.beta * (cosines - 1)).exp() @ values

    def loss(self, image_features, labels):
        logits = self.logits(image_features, self.prepare())
        return F.cross_entropy(logits, labels), logits, {}


@TRAINER_REGISTRY.register()
class TipAdapter(WithoutEpochs, CacheModel):
    """Nothing is trained: the cache is filled, alpha and beta are chosen."""

    published_file = "keys_"

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.TIPADAPTER = section(
            PREC=precision(),
            AUGMENT_EPOCH=key(10, "augmented views of a training image whose mean is its key", low=1, high=10_000),
            INIT_ALPHA=key(1.17, "α, weight of the cache, where it isn't searched, and in training", low=0.0, high=1e6),
            INIT_BETA=key(1.0, "β, sharpness of the cache, the same", low=0.0, high=1e6),
            SEARCH=key("val", "alpha and beta: the best on the run's validation images; none; as published, on the whole "
                       "validation split (ImageNet: the test images), training stopped at the best epoch on test images",
                       choices=("val", "none", PUBLISHED)),
            SEARCH_SCALE=key([7.0, 3.0], "ends of the searched betas and alphas", length=2, low=0.0, high=1e6),
            SEARCH_STEP=key([200, 20], "how many of each", length=2, low=1, high=100_000),
        )  # fmt: skip

    def fit(self):
        self.fill_cache()
        self.choose()


@TRAINER_REGISTRY.register()
class TipAdapterF(ByIterations, CacheModel):
    """The keys are trained by cross-entropy with alpha and beta as set, then these are chosen.

    SEARCH published: keys of the epoch with the best test accuracy; of the set and the searched pair the better one on test
    images. That is the number which the published code prints last.
    """

    published_file = "best_F_"
    lowest_rate = 0.0
    best = None  # published: {"accuracy", "epoch", "keys"} of the best epoch so far

    def before_epoch(self):
        if self.epoch == 0:
            self.fill_cache()
        super().before_epoch()

    def after_epoch(self):
        if self.options.SEARCH == PUBLISHED:
            self.keep_best(*self.features_of(self.test_loader))
        if self.epoch + 1 == self.max_epoch:
            self.finish()
        super().after_epoch()

    def keep_best(self, features, labels):
        """Keep the keys if they are better on these images than those of all epochs before."""
        accuracy = self.accuracy(features, labels)
        print(f"Test accuracy {accuracy:.2f}%")
        if accuracy > (self.best["accuracy"] if self.best else 0.0):
            self.best = {"accuracy": accuracy, "epoch": self.epoch + 1, "keys": self.learner.keys.detach().clone()}

    def finish(self):
        """Choose alpha and beta; in the published protocol after going back to the best keys, and only if that is better."""
        if self.best:
            self.learner.keys.data.copy_(self.best["keys"])
        self.choose()
        if self.options.SEARCH != PUBLISHED:
            return
        self.selection.update(epoch=self.best["epoch"] if self.best else self.max_epoch, epoch_by="test accuracy")
        searched = self.accuracy(*self.features_of(self.test_loader))
        if self.best and self.best["accuracy"] > searched:
            set_pair = {"alpha": self.options.INIT_ALPHA, "beta": self.options.INIT_BETA}
            self.selection.update(set_pair, by="test accuracy: better than the pair that the search found")
            self.learner.weigh(**set_pair)

    def checkpoint_extras(self):
        return {**super().checkpoint_extras(), "best": self.best}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        self.best = extras.get("best")
