"""A trained MoCoOp as one matrix with a row for each class, so that images need neither router nor prompts.

G experts, C classes, E width of the common space. Logits of a unit image feature v are ``scale * v @ matrix.t()``.
"""

import torch
import torch.nn.functional as F

from dassl.metrics import compute_accuracy
from prompting import unit

from . import losses

STEPS = 200  # of L-BFGS at most; it stops where it doesn't get better


@torch.no_grad()
def mean_mixing(trainer, features):
    """Mean over images, unit features [N, E], of the experts' mixing weights: [G]."""
    return losses.top_k_weights(trainer.learner.router(features), trainer.options.TOP_K).double().mean(dim=0).float()


@torch.no_grad()
def class_matrix(trainer, mixing):
    """The classes' text features mixed with the same weights [G] for every image: [C, E]; of length 1 with RENORMALISE."""
    mixed = torch.einsum("g,gce->ce", mixing.to(trainer.device), trainer.text_features())
    return unit(mixed) if trainer.options.RENORMALISE else mixed


def teacher_logits(trainer, features):
    """The model's own logits [N, C] of unit image features [N, E]."""
    with torch.no_grad():
        return trainer.logits(features, trainer.prepare())


def fitted(trainer, matrix, features):
    """``matrix`` moved so that its probabilities on images, unit features [N, E], are the model's: [C, E].

    KL(model ‖ matrix), mean over the images, by L-BFGS. Rows keep their lengths with RENORMALISE (1).
    """
    target = teacher_logits(trainer, features).float().softmax(dim=-1)
    rows, scale = matrix.detach().float().clone().requires_grad_(), trainer.scale
    shaped = unit if trainer.options.RENORMALISE else lambda x: x
    optimiser = torch.optim.LBFGS([rows], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = F.kl_div((scale * features.float() @ shaped(rows).t()).log_softmax(dim=-1), target, reduction="batchmean")
        loss.backward()
        return loss

    optimiser.step(closure)
    return shaped(rows.detach())


def compared(trainer, matrix):
    """{"images", "model", "matrix", "agree"}: accuracies on the run's test images, and for how many both say the same, in %."""
    features, labels = trainer.features_of(trainer.test_loader)
    own, ours = teacher_logits(trainer, features), trainer.scale * features @ matrix.to(features.dtype).t()
    return {
        "images": len(labels),
        "model": compute_accuracy(own, labels)[0].item(),
        "matrix": compute_accuracy(ours, labels)[0].item(),
        "agree": 100.0 * (own.argmax(dim=-1) == ours.argmax(dim=-1)).double().mean().item(),
    }
