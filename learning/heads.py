"""What a method makes of CLIP's image feature, as a module of its own, for programs without this project."""

import torch
from torch import nn

from basics import UserError

from .image_side import ImageLearning, resolved_learning

CLOSE = 1e-4  # of the largest logit: how near an exported classifier is to the run's own


def alike(found, expected):
    """Whether logits are the same but for rounding."""
    return bool((found - expected).abs().max() <= CLOSE * expected.abs().max().clamp_min(1.0))


class Head(nn.Module):
    """A classifier on the image's feature: a subclass has ``scores`` (features [B, F] -> [B, C]) and ``settings``.

    Attributes:
        multi_label: None, or of a run whose images have several labels {"bias": added to all scores, "threshold": the
            probability, a sigmoid of the logit, from which a label counts}.
    """

    multi_label = None

    def forward(self, features):
        scores = self.scores(features)
        return scores + self.multi_label["bias"] if self.multi_label else scores


class LinearHead(Head):
    """logits = logit_scale · f · class_featuresᵀ + bias; f is the image's feature, of length 1 where ``unit_features``."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, unit_features: bool) -> None:
        super().__init__()
        lengths = weight.norm(dim=1)
        alike = bool(lengths.max() - lengths.min() < 1e-4 * lengths.max())
        self.logit_scale, self.unit_features = (float(lengths.mean()) if alike else 1.0), unit_features
        self.register_buffer("class_features", weight / self.logit_scale)  # [C, E]
        self.register_buffer("bias", bias)  # [C]

    def settings(self):
        """What classifier.json says of it."""
        return {"kind": "linear", "logit_scale": self.logit_scale, "unit_features": self.unit_features}

    def scores(self, features):
        if self.unit_features:
            features = features / features.norm(dim=-1, keepdim=True)
        return self.logit_scale * features @ self.class_features.t() + self.bias


def check_exportable(trainer, learned=False):
    """UserError where a method's classifier isn't a head on CLIP's own image feature; names the reason.

    learned: it may be one on the feature of a learned image side.
    """
    name, learning = trainer.cfg.TRAINER.NAME, resolved_learning(trainer)
    if learning is not ImageLearning.NOTHING and (not learned or learning is ImageLearning.UNDECLARED):
        raise UserError(
            f"export: {name} learns {learning.value}, so CLIP's own image encoder and class features aren't all of it"
        )
    if trainer.clip.dtype != torch.float32:
        raise UserError(f"export: this run computes in {trainer.clip.dtype}; add --set TRAINER.{trainer.section}.PREC fp32")


class ImageSide(nn.Module):
    """A method's own image side: normalised pixels [B, 3, R, R] -> what its ``encode_image`` gives, flattened to [B, F]."""

    def __init__(self, trainer):
        super().__init__()
        self.visual, self.learner = trainer.clip.visual, trainer.learner  # its parameters
        self.encode = trainer.encode_image

    def forward(self, images):
        return self.encode(images).flatten(1)


def learned_side(trainer):
    """``ImageSide`` of a method that learns on images; None where CLIP's own image encoder is all."""
    return None if trainer.image_learning is ImageLearning.NOTHING else ImageSide(trainer)


@torch.no_grad()
def linear_head(trainer):
    """Read off a method's logits at the unit vectors and at 0, which is exact where they are linear in the feature.

    The feature is CLIP's own, not normalised; of a method that learns on images, what its ``ImageSide`` gives.

    Raises:
        UserError: they aren't.
    """
    check_exportable(trainer, learned=True)
    rows, columns = trainer.cfg.INPUT.SIZE
    images = torch.randn(4, 3, rows, columns, generator=torch.Generator().manual_seed(0))
    features, side = trainer.encode_image(images), learned_side(trainer)
    raw = side(images) if side else trainer.clip.encode_image(images, raw=True)
    shape, features = features.shape[1:], features.flatten(1) if side else features
    prepared, width = trainer.prepared(), raw.shape[-1]
    refused = f"export: {trainer.cfg.TRAINER.NAME}'s logits aren't a list of class features times the image's: {{}}"
    of = lambda rows: trainer.logits(rows.reshape(-1, *shape) if side else rows, prepared).float()  # noqa: E731
    try:
        ends, share = of(features[:2]), 0.25  # a line of features has a line of logits
        straight = alike(of(share * features[:1] + (1 - share) * features[1:2]), share * ends[:1] + (1 - share) * ends[1:])
        if not straight or features.shape != raw.shape:
            raise UserError(refused.format("they depend on the image in another way"))
        bias = of(torch.zeros(1, width))[0]
        weight = (of(torch.eye(width)) - bias).t()  # [C, E]
    except (RuntimeError, IndexError, ValueError) as e:
        raise UserError(refused.format("they take another feature than CLIP's")) from e
    return LinearHead(weight, bias, unit_features=not torch.equal(features, raw))
