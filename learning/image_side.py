"""The image side of a method: from a batch of pixels, or of kept features, to the features that its loss takes.

``encode_image`` is the one place for it, in training, evaluation, prediction and under torchrun. What a method learns there it
declares as ``image_learning``; that alone decides about gradients, kept features and what several processes share.
"""

import enum

import torch

from dassl.utils import UserError, parallel
from prompting import unit

from .shares import call_shared

PIXEL_HOOKS = ("encode_image", "image_insertions", "parse_batch_train", "parse_batch_test", "forward_backward", "model_inference")


class ImageLearning(enum.Enum):
    """What a method learns between an image's pixels and the feature that its loss takes."""

    NOTHING = "nothing on images"
    HEAD = "a head on CLIP's image feature"
    PROMPTS = "prompts of the image encoder"
    ADAPTERS = "adapters in the image encoder"
    LAYERS = "layers of the image encoder"
    UNDECLARED = "something on images that it doesn't declare (image_learning)"

    @property
    def takes_features(self):
        """Whether batches may hold CLIP's own features, kept from another epoch or run, in place of pixels."""
        return self in (ImageLearning.NOTHING, ImageLearning.HEAD)


def _depth(cls, name):
    """How far up among its bases a class has an attribute from."""
    return next(i for i, base in enumerate(cls.__mro__) if name in vars(base))


def is_ours(cls, hook):
    """Whether a method leaves a hook as this package has it."""
    return cls.__mro__[_depth(cls, hook)].__module__.startswith(f"{__package__}.")


def resolved_learning(trainer):
    """A trainer's declaration; ``UNDECLARED`` where a class below the declaring one handles images in another way."""
    cls = type(trainer)
    declared = _depth(cls, "image_learning")
    if any(_depth(cls, hook) < declared for hook in PIXEL_HOOKS if not is_ours(cls, hook)):
        return ImageLearning.UNDECLARED
    return trainer.image_learning


class ImageSide:
    """Part of PromptTrainer. Shapes: b images of this process, B of the whole batch."""

    image_learning = ImageLearning.NOTHING  # what a method declares; a property where its options decide

    def image_insertions(self):
        """What the method puts into the image encoder's layers (``Insertions``), or None."""
        return None

    def encode_image(self, images):
        """Unit features [b, E] of pixels [b, 3, R, R]; where the method takes them, also of CLIP's own features [b, E].

        A method may give more than one feature an image, [b, ..., E]: its loss gets what this returns.
        """
        if images.dim() == 2:
            return unit(images)
        return self.clip.encode_image(images, insertions=self.image_insertions(), checkpointing=self.cfg.TRAINER.CHECKPOINTING)

    def batch_features(self, images):
        """``encode_image`` of the whole batch [B, ...], with gradients where the method learns something there."""
        learning, own = resolved_learning(self), self._overrides("encode_image", "image_insertions")
        unproven = learning is ImageLearning.NOTHING and own and not self._image_side_checked
        with torch.set_grad_enabled(torch.is_grad_enabled() and (learning is not ImageLearning.NOTHING or unproven)):
            if parallel.world_size() > 1 and learning is not ImageLearning.NOTHING:
                features = call_shared([self.learner, self.clip.visual], self.encode_image, images)
            else:
                features = self.encode_image(images)
        if unproven and features.requires_grad:
            raise UserError(
                f"{type(self).__name__} declares that it learns nothing on images, but its image features have gradients: "
                f"say what it learns there, e.g. image_learning = ImageLearning.ADAPTERS"
            )
        self._image_side_checked = self._image_side_checked or torch.is_grad_enabled()
        return self.whole_batch(features)

    _image_side_checked = False

    def _overrides(self, *hooks):
        return any(getattr(type(self), hook) is not getattr(ImageSide, hook) for hook in hooks)

    def check_image_side(self):
        """UserError where weights of the image encoder are learned though the method doesn't declare it."""
        learning = resolved_learning(self)
        if learning.takes_features and any(p.requires_grad for p in self.clip.visual.parameters()):
            raise UserError(
                f"{type(self).__name__} learns weights of the image encoder but declares that it learns {learning.value}: "
                "set image_learning = ImageLearning.LAYERS"
            )

    def parse_batch_train(self, batch):
        """This process' images [b, 3, R, R], the whole batch's labels [B]; b = B where there is one process."""
        self._whole_size = batch.get("whole_size")
        images, labels = (batch[key].to(self.device, non_blocking=True) for key in ("img", "label"))
        return images, self.whole_batch(labels)

    parse_batch_test = parse_batch_train

    def whole_batch(self, rows):
        """Features or labels of all processes' parts of the current batch, from those of this process."""
        if parallel.world_size() == 1:
            return rows
        if self._whole_size is None:
            raise UserError(f"{type(self).__name__} has data loaders of its own: start it with python in place of torchrun")
        return parallel.gather(rows, parallel.sizes(self._whole_size))
