"""Lets a method that learns nothing in the image encoder take kept features in place of encoding images again.

Bit for bit what it would compute: a batch's features depend in their last bits on the other images of the batch and on
the machine, so an entry belongs to one sequence of batches (with the seeds of their augmentation) and one arithmetic.
"""

import contextlib
import functools
import hashlib
import os
import sys

import torch
from torch.utils.data import DataLoader, default_collate
from tqdm import tqdm

from basics import UserError, kept
from basics.files import relative_to
from dassl.data import DatasetWrapper, SampleIndex, SharedBatchSampler, sampler_of, set_loader_epoch, target_of
from dassl.utils import READER, parallel
from prompting.feature_cache import FeatureCache, arithmetic, describe, files_stamp, megabytes, module_hash, weight_marks

from .image_side import resolved_learning


class KeepsFeatures:
    """Part of PromptTrainer: evaluation, and with TRAINER.CACHE_VIEWS training, take image features from the cache."""

    keeps_views = False  # as with TRAINER.CACHE_VIEWS, whatever it says

    @functools.cached_property
    def image_features(self):
        """This run's kept image features."""
        return ImageFeatures(self)

    def run_epoch(self):
        if not (self.keeps_views or self.cfg.TRAINER.CACHE_VIEWS):
            return super().run_epoch()
        with self.image_features.in_place_of_pixels("train_loader_x", views=True):
            super().run_epoch()

    def test(self, split=None):
        with self.image_features.in_place_of_pixels("val_loader", "test_loader"):
            return super().test(split)


class ImageFeatures:
    """The feature cache of one run.

    Args:
        trainer: a PromptTrainer, built.
    """

    def __init__(self, trainer):
        self.trainer, options = trainer, trainer.cfg.TRAINER
        self.root = os.path.abspath(os.path.expanduser(trainer.cfg.DATASET.ROOT))
        folder = cache_folder(options)
        self.cache = FeatureCache(os.path.join(self.root, folder), options.FEATURE_CACHE_GB) if folder else None
        self._encoder = None  # (marks of its weights, hash)
        self._names = {}  # of image files below the root
        self._said = set()

    @contextlib.contextmanager
    def in_place_of_pixels(self, *loaders, views=False):
        """In this block the trainer's loaders of these names give raw features [B, E] as ``img``, where that is possible.

        views: they are training loaders, whose images are augmented.
        """
        trainer = self.trainer
        originals = {name: getattr(trainer, name) for name in loaders}
        try:
            for name, loader in originals.items():
                setattr(trainer, name, self.batches(loader, views))
            yield
        finally:
            for name, loader in originals.items():
                setattr(trainer, name, loader)

    def batches(self, loader, views=False):
        """``loader``, or the same batches with features in place of pixels."""
        if not isinstance(loader, DataLoader) or self.cache is None:
            return loader  # None, or batches that are features already
        obstacle = self._obstacle(loader, views)
        if obstacle:
            self._say(f"Image features are not cached: {obstacle}")
            return loader
        return FeatureBatches(self, loader, views)

    def _obstacle(self, loader, views):
        learning = resolved_learning(self.trainer)
        if not learning.takes_features:
            return f"{type(self.trainer).__name__} learns {learning.value}"
        dataset = loader.dataset
        if type(dataset) is not DatasetWrapper or dataset.k_tfm > 1 or dataset.return_img0:
            return "this run's data are more than one image per sample"
        if describe(dataset.transform) is None:
            return "this run's transform doesn't show what it does"
        if views and self.trainer.cfg.SEED < 0:
            return "without --seed, no other run sees the same training images"
        return ""

    def _say(self, text):
        if text not in self._said:
            self._said.add(text)
            print(text)

    def encoder_hash(self):
        """Hash of the image encoder, computed anew when a weight has changed; of weights as loaded it is kept from run to run."""
        clip = self.trainer.clip
        marks = weight_marks(clip.visual)
        if self._encoder is None or self._encoder[0] != marks:
            identity = {**clip.identity, "precision": str(clip.dtype)} if clip.identity and marks == clip.marks else None
            known = kept.recall("encoder", identity) if identity else None
            if known is None:
                known = module_hash(clip.visual)
                if identity:
                    kept.keep("encoder", identity, known)
            self._encoder = marks, known
        return self._encoder[1]

    def fetch(self, loader, plan, views):
        """Raw features [n, E] of the batches in ``plan``, from the cache or by way of ``loader``."""
        trainer, dataset = self.trainer, loader.dataset
        used = sorted({int(i) for batch in plan for i in batch})
        paths = [dataset.data_source[i].impath for i in used]
        seeds = [[(int(i), i.rng_seed if views else None) for i in batch] for batch in plan]
        names = [self._names.get(p) or self._names.setdefault(p, relative_to(p, self.root)) for p in paths]
        identity = {
            "dataset": trainer.cfg.DATASET.NAME, "images": len(used), "batches": len(plan),
            "encoder": self.encoder_hash(), "precision": str(trainer.clip.dtype),
            "transform": describe(dataset.transform), "arithmetic": arithmetic(trainer.device, trainer.clip.arrangement),
            "samples": _hash(names), "order": _hash(seeds), "reader": READER, "upright": dataset.upright,
        }  # fmt: skip
        kind = "training views" if views else f"{len(used):,} images"

        what = f"Image features of {kind}"
        total = sum(len(batch) for batch in plan)
        epoch = getattr(sampler_of(loader), "epoch", 0)
        features, read = self.cache.fetch(what, identity, files_stamp(paths), total, lambda: self._encoded(loader, plan, epoch))
        if views:
            self._say(
                f"Image features of training views: {'read from' if read else 'encoded;'} {self.cache.folder}"
                f"{'' if read else ' keeps what it has room for'}"
            )
        else:
            place = f"{self.cache.folder} (which holds {megabytes(self.cache.size())})"
            print(f"{what}: {megabytes(features.nbytes)}{' read from' if read else ', encoded for'} {place}")
        return features

    def _encoded(self, loader, plan, epoch):
        """Raw features [b, E] of each batch in ``plan``, on the CPU, drawn as in this epoch whenever it is called."""
        set_loader_epoch(loader, epoch)
        quiet = not (sys.stderr.isatty() and parallel.is_main())
        for batch, indices in zip(tqdm(loader, disable=quiet, leave=False), plan, strict=True):
            if batch["index"].tolist() != [int(i) for i in indices]:
                raise UserError("this data loader's order isn't known beforehand; set TRAINER.FEATURE_CACHE to \"\"")
            images = batch["img"].to(self.trainer.device, non_blocking=True)
            with torch.no_grad():
                features = self.trainer.clip.encode_image(images, raw=True).cpu()
            yield features


class FeatureBatches:
    """The batches of a loader with raw features [B, E] as ``img``; ``owner.fetch`` gives those of a plan of batches."""

    def __init__(self, owner, loader, views):
        self.owner, self.loader, self.views = owner, loader, views

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        batches = self.loader.batch_sampler
        return batches.marked(self._served()) if isinstance(batches, SharedBatchSampler) else self._served()

    def _served(self):
        sampler, source = sampler_of(self.loader), self.loader.dataset.data_source
        epoch = getattr(sampler, "epoch", 0)
        set_loader_epoch(self.loader, epoch)
        plan = list(self.loader.batch_sampler)
        if self.views and not all(isinstance(i, SampleIndex) for batch in plan for i in batch):
            yield from self.loader  # augmented at random
            return
        set_loader_epoch(self.loader, epoch)  # so that the loader, if it is needed, draws the same once more
        features = self.owner.fetch(self.loader, plan, self.views)
        for indices, part in zip(plan, features.split([len(batch) for batch in plan])):
            items = [(int(i), source[i]) for i in indices]
            rows = [{"label": target_of(d), "domain": d.domain, "impath": d.impath, "index": i} for i, d in items]
            yield {**default_collate(rows), "img": part}


def cache_folder(options):
    """The folder that TRAINER.FEATURE_CACHE names; "" where it switches the cache off."""
    folder = os.path.expanduser(options.FEATURE_CACHE)
    return "" if folder in ("False", "None", "off") else folder


def _hash(value):
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()
