"""A finished run's model: predictions for images of any kind, and what it has learned, as tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basics import UserError
from inference import Predictor

from .runs import Run
from .surroundings import undisturbed

if TYPE_CHECKING:
    import torch


def load(
    run: str | Path | Run,
    *,
    classes: Sequence[str] | None = None,
    epoch: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """The model of a finished run.

    Args:
        run: its folder, or what ``train`` returned.
        classes: [C] class names to choose among; None for the run's own.
        epoch: load the checkpoint of this epoch; None for the best, else the last.
        settings: {KEY: value} of the configuration, such as {"MODEL.BACKBONE.PATH": "ViT-B-16.pt"}.

    Raises:
        UserError: not a finished run, no or unfitting weights, class names that the method can't use.
    """
    folder = run.folder if isinstance(run, Run) else run
    words = [word for key, value in (settings or {}).items() for word in (key, value)]
    with undisturbed():
        return Model(Predictor(folder, None if classes is None else list(classes), epoch, words))


class Model:
    """What ``load`` returns. C classes; E is the width of CLIP's common space; G experts, for methods that have some.

    Attributes:
        predictor: the ``inference.Predictor`` behind it, with ``trainer`` and ``transform``.
        classes: [C] names.
        results: the run's results.json.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.classes: list[str] = predictor.classnames
        self.results: dict[str, Any] = predictor.results

    def __repr__(self) -> str:
        about = f"{self.results['trainer']} on {self.results['dataset']}"
        return f"<mocoop.Model {about} ({self.results['backbone']}), {len(self.classes)} classes>"

    def predict(self, images: Any, top: int = 5) -> list[dict[str, Any]]:
        """Classify images.

        Args:
            images: one or a sequence of: path; PIL image; array, uint8 [H, W] or [H, W, 3]; tensor, uint8 [3, H, W], or what
                ``predictor.transform`` made of an image.
            top: how many classes to name.

        Returns:
            One dict an image: ``image``, its path (else its place in the list); ``classes``, the likeliest, each ``{"name",
            "probability"}``; ``experts`` of methods that have some.

        Raises:
            UserError: an image that is missing, can't be decoded, or is of another kind.
        """
        with undisturbed():
            return self.predictor(_several(images), top)

    def probabilities(self, images: Any) -> torch.Tensor:
        """Shares of 1 of all classes, [N, C] on the CPU, for the images that ``predict`` takes."""
        import torch

        images = _several(images)
        with undisturbed():
            rows = []
            for batch in self.predictor.batches(images):
                if batch.unreadable:
                    raise UserError(batch.unreadable[0][1])
                rows.append(batch.logits.softmax(dim=-1))
            return torch.cat(rows) if rows else torch.zeros(0, len(self.classes))

    def class_features(self) -> torch.Tensor:
        """The classes' text features that images are compared with: [C, E], of MoCoOp one set an expert, [G, C, E].

        Raises:
            UserError: a method whose text features depend on the image (CoCoOp), or that has none.
        """
        import torch

        trainer = self.predictor.trainer
        with undisturbed(), torch.no_grad():
            try:
                return trainer.text_features().detach().float().cpu()
            except (AttributeError, NotImplementedError):
                name = self.results["trainer"]
                raise UserError(f"{name} has no text features of its classes alone (they may depend on the image)") from None

    def router_weights(self, images: Any) -> torch.Tensor:
        """How much of each expert the router wants for each image, [N, G]; rows sum to 1. ``experts`` has their names.

        Raises:
            UserError: a method without router.
        """
        import torch

        if not self.experts:
            raise UserError(f"{self.results['trainer']} has no router; MoCoOp has one")
        rows = [[expert["weight"] for expert in said["experts"]] for said in self.predict(images, top=1)]
        return torch.tensor(rows).reshape(-1, len(self.experts))

    @property
    def experts(self) -> list[str]:
        """[G] names of the experts; [] of a method without."""
        trainer = self.predictor.trainer
        return [group.name for group in trainer.groups] if getattr(trainer, "has_experts", False) else []


def _several(images):
    """A list of images, of one or several."""
    one = isinstance(images, (str, os.PathLike)) or not isinstance(images, (list, tuple))
    if one and getattr(images, "ndim", 0) == 4:
        return list(images)  # a batch, as one array or tensor
    return [images] if one else list(images)
