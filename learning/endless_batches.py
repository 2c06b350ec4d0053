"""Training a head on endless batches of features, of images and of texts: cross-modal adaptation counts steps, not epochs."""

import itertools

import torch
import torch.nn.functional as F

from basics import UserError
from dassl.optim import build_lr_scheduler, build_optimizer


def passes(tensors, size, order):
    """Batches of ``size`` rows without end: pass k takes the rows in ``order(k)``; an incomplete last batch is left out."""
    for number in itertools.count():
        for rows in order(number)[: len(tensors[0]) // size * size].split(size):
            yield [tensor[rows] for tensor in tensors]


def train_head(learner, scale, optim_cfg, batches, accuracy=None, every=100, seen=None):
    """Train a head for OPTIM.MAX_EPOCH steps.

    Args:
        batches: iterables of (features [b, E], labels [b]); each step takes a batch of each together.
        accuracy: function () -> accuracy on validation images; asked after the first step and each ``every`` further ones.
        seen: function (step, rate, loss, logits), called before each update.

    Returns:
        (step, counted from 0, accuracy, state) of the best accuracy, the earliest one; of the last step without ``accuracy``.
    """
    optim = build_optimizer(learner, optim_cfg)
    schedule = build_lr_scheduler(optim, optim_cfg)
    best = None
    for step in range(optim_cfg.MAX_EPOCH):
        features, labels = (torch.cat(part) for part in zip(*(next(part) for part in batches), strict=True))
        logits = scale * learner(features)
        loss = F.cross_entropy(logits, labels)
        if seen:
            seen(step, optim.param_groups[0]["lr"], loss, logits)
        optim.zero_grad()
        loss.backward()
        optim.step()
        schedule.step()
        if accuracy and step % every == 0:
            found = accuracy()
            if best is None or found > best[1]:
                best = step, found, {name: value.clone() for name, value in learner.state_dict().items()}
    return best or (step, None, learner.state_dict())


class TrainsHead:
    """Part of methods that try settings of ``train_head``, before FrozenFeatures among a class's bases.

    Batches are half images, half texts; with ``options.MODALITY`` uni_modal they are images alone.
    """

    def batch_sizes(self, images, texts):
        """Those of ``options.BATCH_SIZE`` whose halves are smaller than the numbers of images and of texts, as published.

        Raises:
            UserError: there is none.
        """
        half = lambda size: size // 2 if self.options.MODALITY == "cross_modal" else 0  # noqa: E731
        fit = [size for size in self.options.BATCH_SIZE if half(size) < texts and size - half(size) < images]
        if not fit:
            raise UserError(
                f"TRAINER.{self.section}.BATCH_SIZE {list(self.options.BATCH_SIZE)}: none fits {images} images and {texts} "
                "texts; name a smaller one"
            )
        return fit

    def batches(self, images, texts, size):
        """Endless batches of ``images`` and of ``texts``, (features [n, E], labels [n]) each; ``size`` rows in both together.

        Each pass over either has an order of its own.
        """

        def endless(name, tensors, count):
            n, device = len(tensors[0]), tensors[0].device
            return passes(tensors, count, lambda k: torch.randperm(n, generator=self.generator(name, k)).to(device))

        half = size // 2 if self.options.MODALITY == "cross_modal" else 0
        parts = [endless("image rows", images, size - half)] if size > half else []
        return parts + ([endless("text rows", texts, half)] if half else [])

    def optim_cfg(self, lr, decay):
        """OPTIM with another learning rate and weight decay."""
        found = self.cfg.OPTIM.clone()
        found.defrost()
        found.LR, found.WEIGHT_DECAY = lr, decay
        return found

    @torch.no_grad()
    def accuracy(self, features, labels):
        """Accuracy in per cent of the learned classifier on features [n, E]."""
        return 100.0 * (self.learner(features).argmax(dim=1) == labels).float().mean().item()
