"""Labels, probabilities, ramps and moving averages as semi-supervised methods use them."""

import math

import torch


def sharpen_prob(p, temperature=2):
    """Return probabilities [B, C] raised to the power ``temperature`` and normalised again."""
    p = p.pow(temperature)
    return p / p.sum(1, keepdim=True)


def reverse_index(data, label):
    """Return both with the batch in reverse order."""
    return data.flip(0), label.flip(0)


def shuffle_index(data, label):
    """Return both with the batch in one random order."""
    order = torch.randperm(data.shape[0])
    return data[order], label[order]


def create_onehot(label, num_classes):
    """Return labels [B] as one-hot rows [B, num_classes], on the CPU."""
    return torch.nn.functional.one_hot(label.cpu(), num_classes).float()


def sigmoid_rampup(current, rampup_length):
    """Return exp(−5 (1 − t)²), t = current / rampup_length within [0, 1]."""
    return math.exp(-5.0 * (1.0 - linear_rampup(current, rampup_length)) ** 2)


def linear_rampup(current, rampup_length):
    """Return current / rampup_length, within [0, 1]."""
    if rampup_length <= 0:
        raise ValueError("rampup_length must be positive")
    return float(min(max(current / rampup_length, 0.0), 1.0))


@torch.no_grad()
def ema_model_update(model, ema_model, alpha):
    """Let the parameters of ``ema_model`` be alpha · (their values) + (1 − alpha) · (``model``'s)."""
    for ema_param, param in zip(ema_model.parameters(), model.parameters()):
        ema_param.mul_(alpha).add_(param, alpha=1 - alpha)
