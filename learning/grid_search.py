"""The best accuracy on test images over a grid of settings and all epochs, as some repositories report it: an upper bound."""

import torch

from basics import UserError
from dassl.metrics import compute_accuracy

from .support import run_at_once


class NotFiniteError(Exception):
    """A setting's training has left the finite numbers."""


class SearchesOnTest:
    """Part of methods on support rows, before OnSupportRows among a class's bases.

    Where ``grid`` gives settings, each is trained from the same start, and the model of the best accuracy on the test images
    after any epoch is saved. Results say so (``selection``). An interrupted run starts anew.
    """

    def grid(self):
        """Hook: settings to try, dictionaries with "lr" or without; [] for a training without a search."""
        return []

    def begin(self, setting):
        """Hook: a new learner with a setting."""
        raise NotImplementedError

    def train(self):
        settings = self.grid()
        if not settings:
            return super().train()
        run_at_once(self, lambda: self.search(settings))

    def search(self, settings):
        """Train all settings, and take the best one's state."""
        own, test = self.cfg, self.features_of(self.test_loader)
        self._rows = self.support_rows()
        print(f"WARNING: the best of {len(settings)} settings and all epochs is chosen on the test images: an upper bound")
        best, epochs, self._searching = None, self.max_epoch, True
        for setting in settings:
            self.cfg = with_rate(own, setting.get("lr"))
            self.begin(setting)
            self.start(*self._rows)
            found, words = [], ", ".join(f"{name} {value:g}" for name, value in setting.items())
            try:
                for self.epoch in range(epochs):  # noqa: B020
                    self.train_rows()
                    found.append(self.accuracy(*test))
                    if best is None or found[-1] > best[0]:
                        state = {name: value.clone() for name, value in self.learner.state_dict().items()}
                        best = found[-1], setting, self.epoch, state
                print(f"{words}: {found[-1]:.2f}% of the test images, at best {max(found):.2f}%")
            except NotFiniteError:
                print(f"{words}: stopped in epoch {self.epoch + 1}, for a value isn't finite")
        self.cfg, self._searching = own, False
        if best is None:
            raise UserError("no setting of the search has a finite loss: the features are too long for this method")
        accuracy, setting, epoch, state = best
        self.begin(setting)
        self.start(*self._rows)
        self.learner.load_state_dict(state)
        by = f"the best accuracy on {len(test[1]):,} test images"
        self.selection = {"protocol": "published", **setting, "epoch": epoch + 1, "by": by}

    _searching = False

    def stop_non_finite(self, what):
        if self._searching:
            raise NotFiniteError(what)
        super().stop_non_finite(what)

    def train_rows(self):
        """One epoch, without a line for each."""
        self.set_model_mode("train")
        batches = self.batches_of_rows(*self._rows)
        self.num_batches = len(batches)
        for self.batch_idx, batch in enumerate(batches):  # noqa: B020
            self.forward_backward(batch)

    @torch.no_grad()
    def accuracy(self, features, labels):
        """Accuracy in per cent on features [n, E]."""
        self.set_model_mode("eval")
        return compute_accuracy(self.logits(features, self.prepare()), labels)[0].item()


def with_rate(cfg, lr):
    """A configuration with another learning rate, or the same one."""
    if lr is None:
        return cfg
    found = cfg.clone()
    found.defrost()
    found.OPTIM.LR = lr
    found.freeze()
    return found
