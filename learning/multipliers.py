"""CLAP's constraint on learned rows of classes: a multiplier for each class, from what zero-shot CLIP thinks of it."""

import torch

from basics import UserError

from .clap_settings import words_of


def first_multipliers(own, labels, count, words):
    """λ [C] of probabilities [n] that rows have of their own ``labels`` [n], of which classes have ``count`` [C]."""
    mean = torch.zeros(len(count), dtype=own.dtype, device=own.device).index_add_(0, labels, own) / count
    if "balanced" in words:
        return torch.ones_like(mean)
    mean = mean * len(mean) / mean.sum() if "corrected" in words else mean
    return mean.mean().expand_as(mean).clone() if "constant" in words else mean


class Multipliers:
    """Part of methods that hold a row of each class near its text feature, before PromptTrainer among a class's bases.

    ``options.CONSTRAINT`` says how, and the learner gives ``distance(metric)`` [C]. Checkpoints hold the multipliers.
    """

    _multipliers, _penalty = None, None  # λ and ρ, [C] each

    @torch.no_grad()
    def start_multipliers(self, features, labels):
        """Take them from the logits of support rows, features [n, E] and labels [n], at the start of a training.

        Raises:
            UserError: a class has no row.
        """
        words = words_of(self.options.CONSTRAINT)
        probability = self.logits(features, self.prepare()).softmax(dim=1)
        count = torch.bincount(labels, minlength=self.num_classes)
        if not count.all():
            name = self.dm.dataset.classnames[int(count.argmin())]
            raise UserError(f"the class {name!r} has no training image, so its weight in the constraint isn't defined")
        mean = first_multipliers(probability.gather(1, labels[:, None])[:, 0], labels, count, words)
        self._multipliers, self._penalty = mean, torch.zeros_like(mean)
        print(f"Multipliers of the constraint: from {mean.min():.3f} to {mean.max():.3f}, mean {mean.mean():.3f}")

    def constraint(self):
        """Mean over classes of λ_c · distance of a class's row from its text feature; a number."""
        return (self._multipliers * self.learner.distance(words_of(self.options.CONSTRAINT)[0])).mean()

    @torch.no_grad()
    def outer_step(self):
        """A step of the multipliers: λ <- max(0, λ + ρ h), ρ <- h; h are squared distances, whatever the constraint's are."""
        h = self.learner.distance("l2")
        self._multipliers, self._penalty = (self._multipliers + self._penalty * h).clamp_min(0), h

    def after_epoch(self):
        if self._multipliers is not None and "adaptative" in self.options.CONSTRAINT:
            self.outer_step()
        super().after_epoch()

    def checkpoint_extras(self):
        own = {"multipliers": self._multipliers, "penalty": self._penalty}
        return {**super().checkpoint_extras(), **{name: value.cpu() for name, value in own.items() if value is not None}}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        found = (extras.get(name) for name in ("multipliers", "penalty"))
        self._multipliers, self._penalty = (value if value is None else value.to(self.device) for value in found)
