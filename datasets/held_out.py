"""Base classes that play the new ones while settings are chosen (DATASET.HELD_OUT); test images and new classes stay unseen."""

import random

from basics import UserError

from .splits import base_labels, subsample_classes


def held_out_labels(data, share, seed):
    """The base classes that play the new ones: `share` of them, drawn with `seed`; one at least, and one at least is left.

    Raises:
        UserError: there is one base class only.
    """
    base = base_labels(data)
    if len(base) < 2:
        raise UserError(f"DATASET.HELD_OUT {share}: the dataset has {len(base)} base class(es), and none can be held out")
    count = min(max(1, round(share * len(base))), len(base) - 1)
    return sorted(random.Random(seed).sample(base, count))


class HoldsOut:
    """Part of datasets with a split."""

    held_out: tuple[int, ...] = ()  # labels of the base classes that play the new ones (DATASET.HELD_OUT)

    def hold_out(self, cfg, train, val, test):
        """Draw the base classes that play the new ones; of the real ones nothing is known then. Returns the test split: []."""
        share, seed = cfg.DATASET.HELD_OUT, cfg.DATASET.HELD_OUT_SEED
        if not val or {item.impath for item in val} & {item.impath for item in test}:
            raise UserError(
                f"DATASET.HELD_OUT {share}: {type(self).__name__} has no validation images that aren't test images, and "
                "nothing is chosen on test images"
            )
        self.held_out = tuple(held_out_labels(train, share, seed))
        names, base = self.all_classnames, base_labels(train)
        self.all_classnames = [names[label] for label in base]
        held = ", ".join(names[label] for label in self.held_out)
        print(f"{len(self.held_out)} of {len(base)} base classes play the new ones (DATASET.HELD_OUT_SEED {seed}): {held}")
        return []

    def chosen(self, cfg, *parts):
        """Parts of the split with the classes that the run is about."""
        return subsample_classes(*parts, subsample=cfg.DATASET.SUBSAMPLE_CLASSES, held_out=self.held_out)
