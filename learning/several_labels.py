"""Images with several labels (DATASET.MULTI_LABEL): binary cross-entropy on the class logits in place of cross-entropy.

CLIP's logits are cosines times a scale: they say which class an image has rather than another one, and the sigmoid of all is near
1. So one number, the bias b, is added to all of them; a class's probability is sigmoid(logit + b). b is fitted once, before the
first step: with it the mean probability over training images (as evaluated, without augmentation) and classes is the share of
labels that there are, which is where the binary cross-entropy is lowest.
"""

import torch
import torch.nn.functional as F

from dassl.utils import parallel

from .support import features_of, loader_of, whole_numbers

HOOKS = ("loss", "forward_backward", "train", "run_epoch", "model_inference", "test", "backward_and_update")
STEPS = 200  # of a bisection: past the last bit of fp64


def binary_cross_entropy(logits, labels):
    """Sum over classes, mean over images: logits [B, C], labels [B, C] of 0 and 1 -> a number, in fp32 or fp64."""
    logits = whole_numbers(logits)
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="sum") / len(logits)


def fitted_bias(logits, labels):
    """The number b for which binary cross-entropy of logits [N, C] + b is lowest: mean probability and mean label are equal."""
    logits, share = logits.double().cpu(), labels.double().mean().item()
    span = logits.abs().max().item() + 50.0
    low, high = -span, span
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if (logits + middle).sigmoid().mean().item() > share else (middle, high)
    return (low + high) / 2


class SeveralLabels:
    """Part of PromptTrainer. A method with a loss of its own says with ``takes_several_labels`` that it has this one, too.

    label_bias: b; 0 where an image has one label.
    """

    _own_bias = None  # of a method without a learner, which keeps it otherwise

    @classmethod
    def has_several_labels(cls):
        """Whether the method has a loss for several labels: a class with a loss or training of its own says so itself."""
        for base in cls.__mro__:
            if "takes_several_labels" in vars(base):
                return vars(base)["takes_several_labels"]
            if any(hook in vars(base) for hook in HOOKS):
                return False
        return False

    @property
    def label_bias(self):
        if not self.cfg.DATASET.MULTI_LABEL:
            return 0.0
        return (self._own_bias or 0.0) if self.learner is None else self.learner.label_bias.item()

    @label_bias.setter
    def label_bias(self, value):
        if self.learner is None:
            self._own_bias = value
        else:
            self.learner.label_bias.fill_(value)

    def add_label_bias(self):
        """Give the learner an entry for the bias: checkpoints then carry it."""
        if self.cfg.DATASET.MULTI_LABEL:
            self.learner.register_buffer("label_bias", torch.zeros((), dtype=torch.float64))

    def class_loss(self, logits, labels):
        """Cross-entropy of logits [B, C] and labels [B]; with labels [B, C] binary cross-entropy of the logits and the bias."""
        if labels.dim() == 1:
            return F.cross_entropy(logits, labels)
        return binary_cross_entropy(logits + self.label_bias, labels)

    def class_scores(self, image_features):
        """What an evaluation takes, [B, C], of what ``encode_image`` gives: logits, with the bias where there is one."""
        logits = self.logits(image_features, self.prepared())
        return whole_numbers(logits) + self.label_bias if self.cfg.DATASET.MULTI_LABEL else logits

    @torch.no_grad()
    def fit_label_bias(self):
        """Fit the bias to the training images."""
        self.set_model_mode("eval")
        self._prepared = None
        features, labels = features_of(self, loader_of(self, self.dm.dataset.train_x))
        logits = torch.cat([self.logits(part, self.prepared()) for part in features.split(self.cfg.DATALOADER.TEST.BATCH_SIZE)])
        self._prepared = None
        self.label_bias = fitted_bias(logits, labels)
        if self.learner is not None:
            parallel.copy_from_main([self.learner.label_bias])
        found = f"{int(labels.sum()):,} on {len(labels):,} training images"
        print(f"Several labels: {found}; a bias of {self.label_bias:.4f} is added to all logits")

    def before_train(self):
        super().before_train()
        if self.cfg.DATASET.MULTI_LABEL and self.start_epoch == 0:  # a resumed run has it from its checkpoint
            self.fit_label_bias()

    def test(self, split=None):
        if self.cfg.DATASET.MULTI_LABEL and self.learner is None and self._own_bias is None:
            self.fit_label_bias()
        return super().test(split)
