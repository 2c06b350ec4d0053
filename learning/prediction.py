"""What prediction with a finished run asks of a method, beside its logits."""

from typing import Any

import torch


class Prediction:
    """Part of PromptTrainer. Methods override what they know better."""

    built_for: dict[
        str, Any
    ] = {}  # checkpoint_extras of the weights that will be loaded into a model without a dataset; {} in training
    has_experts = False  # whether ``explained`` names experts, as MoCoOp's does

    model_inference: Any  # the trainer's

    @classmethod
    def knows_its_classes_only(cls, cfg: Any) -> bool:
        """Whether what is learned belongs to the training classes, so that other class names can't be put in their place."""
        return False

    def exported_image_side(self) -> torch.nn.Module | None:
        """Module: normalised pixels [B, 3, R, R] -> features [B, F], of a method that learns on images; None for others."""
        from .heads import learned_side

        return learned_side(self)

    def exported_head(self) -> torch.nn.Module:
        """Module: CLIP's image features [B, E], not normalised, or those of ``exported_image_side`` -> logits [B, C]; its
        ``settings`` say what it is.

        UserError where the method's classifier can't be written as such a one exactly.
        """
        from .heads import linear_head

        return linear_head(self)

    @torch.no_grad()
    def explained(self, images: torch.Tensor) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Logits [B, C] of images [B, 3, R, R], and for each image a dict of plain values that say more of it."""
        return self.model_inference(images), [{}] * len(images)
