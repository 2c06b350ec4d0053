"""Distances between two sets of vectors."""

import torch
from torch.nn import functional as F


def compute_distance_matrix(input1, input2, metric="euclidean"):
    """Return the distances [M, N] of vectors [M, D] and [N, D]; ``metric``: euclidean (squared) or cosine."""
    if input1.dim() != 2 or input2.dim() != 2 or input1.shape[1] != input2.shape[1]:
        raise ValueError(f"expected [M, D] and [N, D], got {tuple(input1.shape)} and {tuple(input2.shape)}")
    if metric == "euclidean":
        return euclidean_squared_distance(input1, input2)
    if metric == "cosine":
        return cosine_distance(input1, input2)
    raise ValueError(f'unknown distance "{metric}": choose euclidean or cosine')


def euclidean_squared_distance(input1, input2):
    """Return |x − y|² for all pairs, [M, N]."""
    squares1 = input1.pow(2).sum(dim=1, keepdim=True)  # [M, 1]
    squares2 = input2.pow(2).sum(dim=1)  # [N]
    return torch.addmm(squares1 + squares2, input1, input2.t(), alpha=-2)


def cosine_distance(input1, input2):
    """Return 1 − cos(x, y) for all pairs, [M, N]."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).t()
