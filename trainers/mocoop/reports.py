"""What MoCoOp says of its experts beside logits: in a run's results, and for each image."""

import torch

from . import losses
from .routing import lines


class Reported:
    """Part of MoCoOp, before Conditional among its bases. Shapes: B images, G experts."""

    def results_extras(self):
        """What the router did, for results.json; printed, too."""
        if self._prepared is None:  # a subclass evaluates in its own way
            return {}
        report = self._prepared[2].report()
        training = self.entropies.report(len(self.groups))
        report = {**report, "training": training} if training else report
        print("\n".join(lines(report)))
        return {"router": report}

    @torch.no_grad()
    def explained(self, images):
        """Logits, and for each image ``experts`` in the order of the template groups: ``name``; ``template``, which the expert
        started from; ``weight``, its share in the softmax over all; ``chosen``, whether it is one of the k; ``mixing``, its
        share in their mixture."""
        image_features = self.batch_features(images)  # [B, E]
        logits = self.class_scores(image_features)
        scores = self.learner.router(image_features).float()  # [B, G]
        k = self.options.TOP_K
        shares, mixing, best = scores.softmax(dim=-1), losses.top_k_weights(scores, k), scores.topk(k, dim=-1).indices
        described = [{"name": g.name, "template": g.templates[0]} for g in self.groups]
        return logits, [
            {"experts": [{**d, "weight": w[i], "chosen": i in b, "mixing": m[i]} for i, d in enumerate(described)]}
            for w, m, b in zip(shares.tolist(), mixing.tolist(), best.tolist())
        ]
