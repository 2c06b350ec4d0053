"""The choice of Tip-Adapter's alpha and beta: the pair of a grid with the best accuracy on given images."""

import numpy as np
import torch

from basics import UserError

CHUNK = 4096  # images whose similarities to all keys are in memory at a time
PUBLISHED = "published"


class SearchesWeights:
    """Part of methods on a key-value cache, before KeyValueCache among a class's bases.

    The method gives ``prepare()``, ``logits(features, prepared)`` and ``scores(features, prepared)``. Scores are the logits of
    the texts [n, C], the cosines with the keys [n, N], and the values [N, C].
    """

    def choose(self):
        """Take alpha and beta as ``options.SEARCH`` says (val, none, published), and record how.

        Raises:
            UserError: the published way is asked for where there are no validation images.
        """
        o, dataset = self.options, self.cfg.DATASET.NAME
        items = self.published_validation() if o.SEARCH == PUBLISHED else self.validation_items() if o.SEARCH == "val" else []
        if o.SEARCH == PUBLISHED and not items:
            raise UserError(f"TRAINER.{self.section}.SEARCH published: {dataset} has no validation images; set it to val or none")
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
        """Try all pairs on features [n, E] with labels [n].

        The grid is that of ``options.SEARCH_SCALE`` and ``options.SEARCH_STEP``. Of several best pairs the first counts, beta in
        the outer loop.

        Returns:
            ({"alpha", "beta"} of the best pair, its accuracy in per cent)
        """
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


def grid(scale, steps):
    """The values of the published search: from 0.1 in even steps up to ``scale``, which isn't one of them."""
    return [i * (scale - 0.1) / steps + 0.1 for i in range(steps)]
