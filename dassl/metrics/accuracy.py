"""Top-k accuracy of a batch."""


def compute_accuracy(output, target, topk=(1,)):
    """Return the accuracies in per cent, one tensor of shape [1] per k in ``topk``.

    ``output``: scores [B, C] (of a tuple or list the first); ``target``: labels [B].
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    pred = output.topk(min(max(topk), output.shape[1]), dim=1).indices  # [B, k]
    correct = pred.eq(target.view(-1, 1))
    return [correct[:, :k].any(dim=1).float().mean(dim=0, keepdim=True) * 100.0 for k in topk]
