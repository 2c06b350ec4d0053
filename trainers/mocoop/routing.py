"""What MoCoOp's router does with the images that it sees: how surely it chooses, which experts, which of them together."""

import math
from collections import Counter

import torch

PAIRS = 10  # of the most frequent sets of experts, so many are reported


def entropy(probabilities):
    """Entropy of each row in nats: [B, G] -> [B]."""
    return torch.special.entr(probabilities).sum(dim=-1)


class RouterUse:
    """Counts of an evaluation, image by image.

    Args:
        names: of the G experts.
        top_k: experts mixed for an image.
    """

    def __init__(self, names, top_k):
        self.names, self.top_k = names, top_k
        self.chosen = []  # [B, k] numbers of the experts of each batch's images, on the device: nothing waits for it
        self.weights = self.entropy = 0.0

    def add(self, scores, weights):
        """Count a batch: router scores [B, G] and mixing weights [B, G], 0 where not chosen."""
        self.chosen.append(scores.topk(self.top_k, dim=-1).indices.sort(dim=-1).values.to(torch.int16))
        self.weights = self.weights + weights.float().sum(dim=0)
        self.entropy = self.entropy + entropy(scores.float().softmax(dim=-1)).sum()

    def report(self):
        """Plain data for results.json; shares are of all images, entropies of the maximum log G (None for one expert)."""
        sets = Counter(map(tuple, torch.cat(self.chosen).tolist()))  # of experts chosen together
        images, most = sum(sets.values()), math.log(len(self.names))
        used = Counter()
        for experts, count in sets.items():
            used.update(dict.fromkeys(experts, count))
        return {
            "images": images,
            "entropy": float(self.entropy) / images / most if most else None,
            "experts": [
                {"name": name, "chosen": used[g] / images, "weight": float(self.weights[g]) / images}
                for g, name in enumerate(self.names)
            ],
            "sets": [
                {"experts": [self.names[g] for g in experts], "share": count / images}
                for experts, count in sorted(sets.items(), key=lambda item: (-item[1], item[0]))[:PAIRS]
            ],
        }


class TrainingEntropies:
    """Mean entropies of the router's distribution and of its target over the training images of the newest epoch."""

    def __init__(self):
        self.sums, self.images = None, 0

    def add(self, scores, target, new_epoch):
        """Count a batch: scores and target [B, G]; ``new_epoch`` starts anew. Nothing waits for the device."""
        both = torch.stack([entropy(p.detach().float()).sum() for p in (scores.softmax(dim=-1), target)])
        self.sums, self.images = (both, len(scores)) if new_epoch else (self.sums + both, self.images + len(scores))

    def report(self, num_experts):
        """{"router": share of the maximum, "target": the same}; None before training or for one expert."""
        if self.sums is None or num_experts < 2:
            return None
        router, target = (self.sums.double() / self.images / math.log(num_experts)).tolist()
        return {"router": router, "target": target}


def lines(report):
    """The report in words, for the log."""
    per_cent = lambda share: "-" if share is None else f"{100 * share:.1f}%"  # noqa: E731
    first = report["sets"][0]
    training = report.get("training")
    of_target = f" (target: {per_cent(training['target'])}, on the last epoch's training images)" if training else ""
    yield "=> router"
    yield f"* entropy: {per_cent(report['entropy'])} of the maximum{of_target}"
    yield f"* most frequent choice: {' + '.join(first['experts'])}, {per_cent(first['share'])} of {report['images']:,} images"
    used = sorted(report["experts"], key=lambda e: -e["chosen"])
    yield "* experts chosen: " + ", ".join(f"{e['name']} {per_cent(e['chosen'])}" for e in used)
