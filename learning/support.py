"""Methods on frozen features: the support set's features in all views, features of a split, fitting without epochs."""

import random
import time

import torch

from basics import UserError
from dassl.data import build_data_loader, set_loader_epoch
from dassl.data.transforms import build_transform
from dassl.engine.run_folder import TRAINING
from dassl.evaluation import check_finite
from dassl.utils import hash_seed, parallel
from prompting import SELECTED_TEMPLATES, unit

from .dataset import dataset_class, hand_template
from .image_side import ImageLearning


@torch.no_grad()
def support_views(trainer, views):
    """Features [V, N, E] as long as CLIP gives them, in fp32 or fp64, and labels [N] of all training images of a trainer.

    View v has epoch v's augmentation.
    """
    own = trainer.train_loader_x.dataset
    source, size = own.data_source, trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    whole = build_data_loader(
        trainer.cfg, "RandomSampler", source, size, tfm=own.transform, dataset_wrapper=lambda *_, **__: own, share=True,
        drop_last=False,
    )  # fmt: skip
    loader = trainer.image_features.batches(whole, views=True)
    found, labels = None, None
    for view in range(views):
        set_loader_epoch(whole, view)
        rows = [_rows_of(trainer, batch) for batch in loader]
        features, targets, numbers = (torch.cat(part) for part in zip(*rows, strict=True))
        found = features.new_zeros(views, len(source), features.shape[1]) if found is None else found
        labels = targets.new_zeros(len(source), *targets.shape[1:]) if labels is None else labels
        found[view, numbers], labels[numbers] = features, targets
    return found, labels


def _rows_of(trainer, batch):
    images, labels = trainer.parse_batch_train(batch)
    features = whole_numbers(images if images.dim() == 2 else trainer.clip.encode_image(images, raw=True))
    return trainer.whole_batch(features), labels, trainer.whole_batch(batch["index"].to(trainer.device))


def whole_numbers(features):
    """Features in fp32, or in fp64 where CLIP computes in it."""
    return features if features.dtype == torch.float64 else features.float()


class RawFeatures:
    """Part of methods that take image features as long as CLIP gives them, before PromptTrainer among a class's bases."""

    image_learning = ImageLearning.NOTHING

    def encode_image(self, images):
        """Features [b, E] of pixels, or CLIP's own features as they are; in fp32, or fp64 where CLIP computes in it."""
        return whole_numbers(images if images.dim() == 2 else self.clip.encode_image(images, raw=True))


@torch.no_grad()
def features_of(trainer, loader):
    """What a trainer's ``encode_image`` gives, [n, E], and labels [n] of a loader's images."""
    rows = []
    for batch in trainer.image_features.batches(loader):
        images, labels = trainer.parse_batch_test(batch)
        rows.append((trainer.batch_features(images), labels))
    features, labels = (torch.cat(part) for part in zip(*rows, strict=True))
    check_finite(features, "the image features")
    return features, labels


def loader_of(trainer, items, tfm=None):
    """A trainer's loader of Datums through the test transform, or another one."""
    cfg = trainer.cfg
    tfm, size = tfm or build_transform(cfg, is_train=False), cfg.DATALOADER.TEST.BATCH_SIZE
    return build_data_loader(cfg, data_source=items, batch_size=size, tfm=tfm, is_train=False, share=True)


class SplitFeatures:
    """Part of methods that take the features of all images of a split at once, before PromptTrainer among a class's bases."""

    features_of, loader_of = features_of, loader_of


class FrozenFeatures(SplitFeatures, RawFeatures):
    """Part of methods that learn from features alone. Shapes: V views, N support images, n images of a split."""

    keeps_views = True  # a view is encoded once, whoever asks for it

    def support(self, views):
        """As ``support_views``."""
        return support_views(self, views)

    def class_templates(self):
        """The data set's template; on ImageNet and its variants seven others."""
        of_imagenet = self.cfg.DATASET.NAME == "ImageNet" or getattr(dataset_class(self.cfg), "variant_of", "") == "imagenet"
        templates = SELECTED_TEMPLATES if of_imagenet else [hand_template(self.cfg)]
        print("Templates: " + ", ".join(f'"{t}"' for t in templates))
        return templates

    def class_text(self, classnames):
        """Unit text features [C, E], the mean over templates."""
        return unit(self.hard_features(self.class_templates(), classnames).mean(dim=0))

    def generator(self, *purpose):
        """Randomness that is a function of the seed and ``purpose`` alone; of chance where there is no seed."""
        seed = self.cfg.SEED if self.cfg.SEED >= 0 else parallel.from_main(random.SystemRandom().getrandbits(32))
        return torch.Generator().manual_seed(hash_seed(*purpose, seed))

    def validation_items(self):
        """The run's validation images (Datums) for choosing settings on; [] where there are none, or they are test images."""
        val = self.dm.dataset.val or []
        tested = {item.impath for item in self.dm.dataset.test}
        if any(item.impath in tested for item in val):
            print(f"{self.cfg.DATASET.NAME}: its validation images are test images, so nothing is chosen on them")
            return []
        return val

    def published_validation(self, shots=0):
        """Validation images that a published protocol takes beyond the run's own: ``shots`` a class, 0: all there are."""
        find = getattr(self.dm.dataset, "more_validation", None)
        if find is None:
            raise UserError(f"{self.cfg.DATASET.NAME} doesn't say its whole validation split: the published way needs it")
        return find(self.cfg, shots)

    selection = None  # {"protocol", "by", ...}: how settings were chosen, once they were

    def checkpoint_extras(self):
        return {**super().checkpoint_extras(), "selection": self.selection}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        self.selection = extras.get("selection")

    def results_extras(self):
        return {**super().results_extras(), **({"selection": self.selection} if self.selection else {})}


def run_at_once(trainer, fit):
    """A whole run whose training is one call of ``fit``: fit, save, evaluate. Interrupted, it starts anew."""
    trainer._trained = True
    trainer.claim(TRAINING)
    start = time.monotonic()
    fit()
    trainer._train_seconds += time.monotonic() - start
    trainer.save_model(trainer.max_epoch - 1, trainer.output_dir)
    trainer.test()


class WithoutEpochs:
    """Part of methods that are fitted at once, by ``fit()``, before PromptTrainer among a class's bases.

    An interrupted run starts anew. OPTIM.MAX_EPOCH numbers the checkpoint.
    """

    def train(self):
        """Fit, save, evaluate."""
        run_at_once(self, self.fit)
