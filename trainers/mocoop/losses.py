"""MoCoOp's mixture and losses as functions of features. B images, C classes, G experts, I templates, E feature width."""

import math

import torch
import torch.nn.functional as F


def gram(features):
    """Inner products of the experts' features, class by class: [G, C, E] -> [G, G, C]."""
    return torch.einsum("gce,hce->ghc", features, features)


def top_k_weights(scores, k):
    """Softmax over each image's k best experts, 0 elsewhere: [B, G] -> [B, G]."""
    best, index = scores.topk(k, dim=-1)
    return torch.zeros_like(scores).scatter(-1, index, best.softmax(dim=-1))


def mixture_cosine(image_features, features, weights, gram_matrix=None):
    """Inner product of image features with the weighted sum of the experts' features, divided by that sum's length.

    Args:
        image_features: [B, E], unit length.
        features: [G, C, E], unit length.
        weights: [B, G].
        gram_matrix: ``gram(features)``; None leaves the sum at its own length (released recipe).

    Returns:
        [B, C].
    """
    similarity = torch.einsum("be,gce->bgc", image_features, features)
    dot = torch.einsum("bg,bgc->bc", weights, similarity)
    if gram_matrix is None:
        return dot
    squared = torch.einsum("bg,bh,ghc->bc", weights, weights, gram_matrix)
    return dot * squared.clamp_min(1e-12).rsqrt()


def own_mixture_cosine(image_features, features, weights, renormalise=True):
    """As ``mixture_cosine``, where each image has text features of its own.

    Args:
        image_features: [B, E], unit length.
        features: [B, k, C, E], unit length.
        weights: [B, k].
        renormalise: divide by the mixture's length.

    Returns:
        [B, C].
    """
    mixed = torch.einsum("bk,bkce->bce", weights, features)
    dot = torch.einsum("be,bce->bc", image_features, mixed)
    return dot * mixed.square().sum(dim=-1).clamp_min(1e-12).rsqrt() if renormalise else dot


def group_target(image_features, group_features, tau=1.0, centre=None):
    """Eq. 4-6: softmax over groups of the cosine of the image to the group's mean feature.

    Args:
        image_features: [B, E], unit length.
        group_features: [G, E], unit length.
        tau: temperature (the paper has none: 1).
        centre: [G] subtracted from each image's cosines, or None.

    Returns:
        [B, G].
    """
    cosine = image_features @ group_features.t()
    if centre is not None:
        cosine = cosine - centre
    return (cosine / tau if tau != 1 else cosine).softmax(dim=-1)


def true_class_target(image_features, prototypes, labels, bonus=10.0):
    """The released code's target: cosines to the true class's prototypes, the two highest raised by ``bonus``, softmax.

    Args: image_features [B, E], prototypes [G, C, E], labels [B]. Returns [B, G].
    """
    cosine = torch.einsum("be,gbe->bg", image_features, prototypes[:, labels])
    best = cosine.topk(min(2, cosine.shape[1]), dim=-1).indices
    return cosine.scatter_add(-1, best, cosine.new_full(best.shape, bonus)).softmax(dim=-1)


def router_loss(scores, target, kind):
    """Distance of the router's distribution softmax(scores) [B, G] to the target [B, G].

    ``kl``: KL(softmax(scores) ‖ target), Eq. 7. ``mse``: mean squared difference of the two (Table 5). ``ce``: cross-entropy
    with the target as soft label (released code).
    """
    if kind == "kl":
        log_router = scores.log_softmax(dim=-1)
        return (log_router.exp() * (log_router - target.log())).sum(dim=-1).mean()
    if kind == "mse":
        return F.mse_loss(scores.softmax(dim=-1), target)
    return F.cross_entropy(scores, target)


def balance_loss(scores, k, kind):
    """How unevenly a batch's images use the experts: router scores [B, G] -> a number; gradient by way of the probabilities.

    ``switch``: G · Σ_g f_g P_g, f_g the share of the images' k choices that went to expert g, P_g the mean of its probability in
    the softmax over all (Fedus et al. 2022, Eq. 4-6, where k is 1); 1 where both are even. ``importance``: the squared
    coefficient of variation, over experts, of the sum of their mixing weights (Shazeer et al. 2017, Eq. 6-7, with the variance
    over n); 0 where all are used alike.
    """
    if kind == "importance":
        importance = top_k_weights(scores, k).sum(dim=0)  # [G]
        return importance.var(correction=0) / importance.mean().square()
    chosen = torch.zeros_like(scores).scatter(-1, scores.topk(k, dim=-1).indices, 1.0)  # [B, G]
    return scores.shape[1] * (chosen.mean(dim=0) / k * scores.softmax(dim=-1).mean(dim=0)).sum()


def by_template_count(hard_features):
    """G tensors [I_g, C, E] of hard features as [(numbers of n groups that have I templates, [n, I, C, E])]."""
    found = {}
    for g, hard in enumerate(hard_features):
        found.setdefault(len(hard), []).append(g)
    return [(numbers, torch.stack([hard_features[g] for g in numbers])) for numbers in found.values()]


def text_loss_templates(features, stacks, tau):
    """Eq. 8-9: how surely each soft feature is recognised among the hard features of all classes.

    Args:
        features: [G, C, E] soft features.
        stacks: ``by_template_count`` of the groups' hard features.
        tau: temperature.

    Returns:
        -mean over groups and classes of log P, P the mean over the group's templates of the softmax probability of the class.
    """
    total = 0.0
    for numbers, hard in stacks:
        cosine = torch.einsum("nce,niye->nciy", features[numbers], hard) / tau  # class c's soft feature, all hard classes y
        log_p = cosine.log_softmax(dim=-1).diagonal(dim1=1, dim2=3)  # [n, I, C]
        total = total + (math.log(hard.shape[1]) - log_p.logsumexp(dim=1)).sum()
    return total / (features.shape[0] * features.shape[1])


def text_loss_prototype(features, prototypes, tau=1.0):
    """The released code's text loss: cross-entropy of soft features [G, C, E] among one prototype a class, [G, C, E]."""
    cosine = torch.einsum("gce,gye->gcy", features, prototypes) / tau
    classes = torch.arange(cosine.shape[1], device=cosine.device)
    return F.cross_entropy(cosine.flatten(0, 1), classes.repeat(len(cosine)))
