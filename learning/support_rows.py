"""Training on the support set's features in memory: all views of an image are rows of their own."""

import torch

from dassl.utils import parallel

from .support import FrozenFeatures


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
