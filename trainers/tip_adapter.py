"""Tip-Adapter: a key-value cache of the training images beside zero-shot CLIP (Zhang et al., Tip-Adapter, ECCV 2022)."""

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.checkpoint import load_learned_state, loaded_record, only_user_errors
from dassl.utils import safe_torch_load
from learning import PromptTrainer
from learning.class_rows import NamedClasses
from learning.iterations import ByIterations
from learning.keys import precision
from learning.support import FrozenFeatures, WithoutEpochs
from prompting import unit

SCALE = 100.0  # of the cosines with texts, whatever CLIP's own is
CHUNK = 4096  # images whose similarities to all keys are in memory at a time
PUBLISHED = "published"


class Cache(nn.Module):
    """``keys`` [N, E] of N training images, their ``labels`` [N], and ``alpha`` and ``beta`` of the logits."""

    def __init__(self, num_keys, embed_dim, alpha, beta):
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(num_keys, embed_dim))
        self.register_buffer("labels", torch.zeros(num_keys, dtype=torch.long))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))

    def weigh(self, alpha, beta):
        self.alpha.fill_(alpha)
        self.beta.fill_(beta)


class CacheModel(NamedClasses, FrozenFeatures, PromptTrainer):
    """What both variants share. The logits of a unit feature f and unit texts t_c, keys k_i of the class y_i:

    100 f·t_c + α Σ_{i: y_i = c} exp(-β (1 - f·k_i)). A key is the unit mean over AUGMENT_EPOCH views of the image's feature.
    Classes without a key have their text's logit alone.
    """

    section = "TIPADAPTER"
    model_name = "tip_adapter"
    published_file = ""  # of the folder caches/<data set> that the published code writes

    def build_learner(self, classnames):
        o = self.options
        self.class_features = self.class_text(classnames)  # [C, E]
        return Cache(max(len(self.dm.dataset.train_x), 1), self.clip.embed_dim, o.INIT_ALPHA, o.INIT_BETA)

    def text_features(self):
        return self.class_features

    def values(self):
        """One-hot labels of the keys [N, C]."""
        return F.one_hot(self.learner.labels, len(self.class_features)).to(self.learner.keys.dtype)

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

    def fill_cache(self):
        """Take the training images' features as keys."""
        features, labels = self.support(self.options.AUGMENT_EPOCH)
        self.take_keys(unit(features.mean(dim=0)), labels)

    @torch.no_grad()
    def take_keys(self, keys, labels):
        self.learner.keys.data = keys.to(self.learner.keys)
        self.learner.labels = labels.to(self.learner.labels)

    # -- alpha and beta --------------------------------------------------------------------------------------------------------

    def choose(self):
        """Take alpha and beta as TRAINER.TIPADAPTER.SEARCH says, and record how."""
        o, dataset = self.options, self.cfg.DATASET.NAME
        items = self.published_validation() if o.SEARCH == PUBLISHED else self.validation_items() if o.SEARCH == "val" else []
        if o.SEARCH == PUBLISHED and not items:
            raise UserError(f"TRAINER.TIPADAPTER.SEARCH published: {dataset} has no validation images; set it to val or none")
        self.selection = {"protocol": o.SEARCH if items else "none", "alpha": o.INIT_ALPHA, "beta": o.INIT_BETA, "by": "settings"}
        if items:
            tested = {item.impath for item in self.dm.dataset.test}
            kind = "test" if any(item.impath in tested for item in items) else "validation"
            found, accuracy = self.search(*self.features_of(self.loader_of(items)))
            self.selection.update(found, by=f"the best accuracy on {len(items):,} {kind} images")
            print(f"alpha {found['alpha']:.4g}, beta {found['beta']:.4g}: {accuracy:.2f}% of {len(items):,} {kind} images")
        self.learner.weigh(self.selection["alpha"], self.selection["beta"])

    @torch.no_grad()
    def search(self, features, labels):
        """({"alpha", "beta"}, accuracy in per cent) of the grid's best pair; of several the first, beta counted outside."""
        betas, alphas = (grid(*pair) for pair in zip(self.options.SEARCH_SCALE, self.options.SEARCH_STEP, strict=True))
        right = torch.zeros(len(betas), len(alphas), dtype=torch.long, device=features.device)
        prepared = self.prepare()
        for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK)):
            of_text, cosines, values = self.scores(rows, prepared)
            for i, beta in enumerate(betas):
                of_keys = (-(beta - beta * cosines)).exp() @ values
                for j, alpha in enumerate(alphas):
                    right[i, j] += ((of_text + of_keys * alpha).argmax(dim=1) == targets).sum()
        right = right.cpu().numpy()
        i, j = np.unravel_index(right.argmax(), right.shape)
        found = {"alpha": alphas[j], "beta": betas[i]} if right[i, j] else {"alpha": 0.0, "beta": 0.0}  # as published
        return found, 100.0 * int(right[i, j]) / len(labels)

    @torch.no_grad()
    def accuracy(self, features, labels):
        """Accuracy in per cent on features [n, E] with the present keys, alpha and beta."""
        prepared = self.prepare()
        pairs = zip(features.split(CHUNK), labels.split(CHUNK))
        return 100.0 * sum(int((self.logits(f, prepared).argmax(dim=1) == y).sum()) for f, y in pairs) / len(labels)

    # -- checkpoints -----------------------------------------------------------------------------------------------------------

    def adapt_state_dict(self, name, state_dict):
        """The keys of the classes that are here, with their labels here."""
        number = {before: own for own, before in self.learned_classes(self._trained_classes)}
        labels = torch.tensor([number.get(label, -1) for label in state_dict["labels"].tolist()], dtype=torch.long)
        state = {**state_dict, "keys": state_dict["keys"][labels >= 0], "labels": labels[labels >= 0]}
        self.take_keys(torch.zeros_like(state["keys"]), torch.zeros_like(state["labels"]))  # as many as there will be
        return state

    def load_model(self, directory, epoch=None):
        """As the engine's; ``directory`` may also be a folder caches/<data set> of the published code."""
        values = os.path.join(directory, f"values_{self.cfg.DATASET.NUM_SHOTS}shots.pt") if directory else ""
        if not os.path.isfile(values):
            return super().load_model(directory, epoch)
        path = values.replace("values_", self.published_file)
        if not os.path.isfile(path):
            raise UserError(f"{directory}: has {os.path.basename(values)}, but not {os.path.basename(path)}")
        self._prepared, self._loaded = None, loaded_record(directory, [(self.model_name, path, {})])
        o = self.options
        print(f'Loading the cache of "{path}", with alpha {o.INIT_ALPHA} and beta {o.INIT_BETA} (the file has none)')
        with only_user_errors(path):
            self.load_published(safe_torch_load(path), safe_torch_load(values), path)

    def load_published(self, keys, values, path):
        """Take over keys [N, E], or [E, N] as the training-free variant saves them, and one-hot values [N, C]."""
        keys = keys.detach().float().t() if self.published_file == "keys_" else keys.detach().float()
        expected = (len(keys), len(self.class_features)), self.clip.embed_dim
        if (tuple(values.shape), keys.shape[1]) != expected:
            raise UserError(
                f"{path}: {len(keys)} keys of width {keys.shape[1]} and values {tuple(values.shape)} don't fit these "
                f"{expected[0][1]} classes and the width {expected[1]}"
            )
        self.take_keys(torch.zeros_like(keys), torch.zeros(len(keys)))
        state = {"keys": keys, "labels": values.argmax(dim=1), "alpha": self.learner.alpha, "beta": self.learner.beta}
        load_learned_state(self.learner, state, path)


def grid(scale, steps):
    """The values of the published search: from 0.1 in even steps up to ``scale``, which isn't one of them."""
    return [i * (scale - 0.1) / steps + 0.1 for i in range(steps)]


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
