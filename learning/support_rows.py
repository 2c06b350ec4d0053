"""Training on the support set's features in memory: views as rows of their own, or one view of each image an epoch."""

import torch

from dassl.utils import parallel

from .kept_features import FeatureBatches
from .support import FrozenFeatures, support_views


class OnSupportRows(FrozenFeatures):
    """Part of methods that encode the training images once and then train on rows of features, before PromptTrainer.

    An epoch takes as many batches as one pass over the images has, of rows in an order that (seed, epoch) decides.
    """

    _rows = None  # (features [n, E], labels [n])

    def support_rows(self):
        """Hook: features [n, E] and labels [n] to train on."""
        raise NotImplementedError

    def start(self, features, labels):
        """Hook: what a training that isn't resumed takes from the rows before its first step."""

    def order(self, count):
        """The rows of this epoch, of ``count``, in their order: [n]."""
        return torch.randperm(count, generator=self.generator("rows", self.epoch))

    def run_epoch(self):
        if self._rows is None:
            with torch.no_grad():
                self._rows = self.support_rows()
                if self.epoch == 0:
                    self.start(*self._rows)
        loader, self.train_loader_x = self.train_loader_x, self.batches_of_rows(*self._rows)
        try:
            super().run_epoch()
        finally:
            self.train_loader_x = loader

    def batches_of_rows(self, features, labels):
        """This epoch's batches, as a loader gives them; of several processes each gets its part."""
        size, images = self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE, len(self.dm.dataset.train_x)
        batches = []
        for rows in self.order(len(labels)).to(labels.device).split(size)[: max(1, images // size)]:
            own = rows[parallel.own_slice(len(rows))]
            own = own if len(own) else rows[:1]
            batches.append({"img": features[own], "label": labels[own], "whole_size": len(rows)})
        return batches


class ViewsInTurn:
    """Part of methods on frozen features that see a view of each image an epoch, before PromptTrainer among a class's bases.

    ``options.VIEWS``: how many views of an image there are; they are encoded once and taken in turn. 0: a new one each epoch.
    """

    _table = None  # [V, N, E]

    def run_epoch(self):
        count = self.options.VIEWS
        if not count:
            return super().run_epoch()
        if self._table is None:
            self._table = support_views(self, count)[0]
        loader, self.train_loader_x = self.train_loader_x, FeatureBatches(self, self.train_loader_x, views=False)
        try:
            super().run_epoch()
        finally:
            self.train_loader_x = loader

    def fetch(self, loader, plan, views):
        """Features [n, E] of the images in ``plan`` in this epoch's view (as ``ImageFeatures.fetch``)."""
        return self._table[self.epoch % len(self._table), [int(i) for batch in plan for i in batch]]
