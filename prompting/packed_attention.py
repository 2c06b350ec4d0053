"""Attention over packed prompts: the prefix of a group once, the own tokens of each prompt once (see ``tower``)."""

import math

import torch
import torch.nn.functional as F


class PackedAttention:
    """Part of TextTower, which has ``heads`` and ``width``. T packed tokens, D width, H heads of d, G groups, P prefix tokens."""

    def _prefix(self, x, plan):
        """The prefixes' rows of a packed [T, D], as [G, H, P, d]."""
        G, P = plan.num_groups, plan.prefix_length
        return x[: G * P].view(G, P, self.heads, -1).transpose(1, 2)

    def _attend(self, q, k, v, plan):
        """Causal attention of prefixes among themselves and of suffixes to their prefix and themselves: [T, D] -> [T, D]."""
        qp, kp, vp = (self._prefix(t, plan) for t in (q, k, v))  # [G, H, P, d]
        o = F.scaled_dot_product_attention(qp, kp, vp, is_causal=True)
        out = [o.transpose(1, 2).reshape(-1, self.width)]
        for bucket in plan.buckets:
            rows = slice(bucket.start, bucket.start + math.prod(bucket.shape))
            qs, ks, vs = (self._suffix(t[rows], bucket, bucket.length) for t in (q, k, v))  # [g, H, c, S, d]
            out.append(self._joint(qs, ks, vs, kp, vp, bucket, bucket.bias))
        return torch.cat(out)

    def _attend_at_eot(self, q, k, v, plan):
        """The same for the end tokens' queries alone: q [G * C, D], k and v [T, D] -> [G * C, D]."""
        kp, vp = self._prefix(k, plan), self._prefix(v, plan)
        out, done = [], 0
        for bucket in plan.buckets:
            g, c, S = bucket.shape
            rows = slice(bucket.start, bucket.start + g * c * S)
            qs = self._suffix(q[done : done + g * c], bucket, 1)  # [g, H, c, 1, d]
            ks, vs = (self._suffix(t[rows], bucket, S) for t in (k, v))
            out.append(self._joint(qs, ks, vs, kp, vp, bucket, bucket.eot_bias))
            done += g * c
        return torch.cat(out)

    def _suffix(self, x, bucket, S):
        """A bucket's rows [g * c * S, D] as [g, H, c, S, d]."""
        g, c, _ = bucket.shape
        return x.view(g, c, S, self.heads, -1).permute(0, 3, 1, 2, 4)

    def _joint(self, q, k, v, kp, vp, bucket, bias):
        """Attention of suffix queries to prefix keys, in place, and to their own suffix' keys, under one softmax.

        Shapes: q [g, H, c, Q, d] (Q = S, or 1 at the end token), k and v [g, H, c, S, d], kp and vp [G, H, P, d],
        bias [.., .., .., Q, P + S]. Returns [g * c * Q, D].
        """
        if not bucket.all_groups:
            kp, vp = kp[bucket.groups], vp[bucket.groups]
        g, H, c, Q, d = q.shape
        P = kp.shape[2]
        q = (q * d**-0.5).contiguous()
        to_prefix = q.view(g, H, c * Q, d) @ kp.transpose(-1, -2)  # [g, H, c * Q, P]
        to_self = q @ k.transpose(-1, -2)  # [g, H, c, Q, S]
        weights = torch.cat([to_prefix.view(g, H, c, Q, P), to_self], dim=-1) + bias.to(to_self.dtype)
        weights = weights.softmax(dim=-1)
        out = (weights[..., :P].reshape(g, H, c * Q, P) @ vp).view(g, H, c, Q, d) + weights[..., P:] @ v
        return out.permute(0, 2, 3, 1, 4).reshape(g * c * Q, H * d)
