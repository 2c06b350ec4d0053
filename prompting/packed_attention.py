"""Attention over packed prompts: the prefix of a group once, the own tokens of each prompt once (see ``tower``)."""

import torch
import torch.nn.functional as F


class PackedAttention:
    """Part of TextTower, which has ``heads`` and ``width``. T packed tokens, D width, H heads of d, G groups, P prefix tokens."""

    def _prefix(self, x, plan):
        """The prefixes' rows [G * P, D] as [G, H, P, d]."""
        return x.view(plan.num_groups, plan.prefix_length, self.heads, -1).transpose(1, 2)

    def _attend(self, qkv, plan):
        """Causal attention of prefixes among themselves and of suffixes to their prefix and themselves: [T, 3 D] -> [T, D]."""
        first, *rest = qkv.split(plan.row_counts)  # not sliced: the gradient of each slice is as long as the whole
        qp, kp, vp = (self._prefix(t, plan) for t in first.split(self.width, dim=-1))  # [G, H, P, d]
        o = F.scaled_dot_product_attention(qp, kp, vp, is_causal=True)
        out = [o.transpose(1, 2).reshape(-1, self.width)]
        for bucket, part in zip(plan.buckets, rest, strict=True):
            qs, ks, vs = (self._suffix(t, bucket, bucket.length) for t in part.split(self.width, dim=-1))  # [g, H, c, S, d]
            out.append(self._joint(qs, ks, vs, kp, vp, bucket, bucket.bias))
        return torch.cat(out)

    def _attend_at_eot(self, q, kv, plan):
        """The same for the end tokens' queries alone: q [G * C, D] and kv [T, 2 D] -> [G * C, D]."""
        first, *rest = kv.split(plan.row_counts)
        kp, vp = (self._prefix(t, plan) for t in first.split(self.width, dim=-1))
        out, queries = [], q.split([b.num_programs for b in plan.buckets])
        for bucket, own, part in zip(plan.buckets, queries, rest, strict=True):
            qs = self._suffix(own, bucket, 1)  # [g, H, c, 1, d]
            ks, vs = (self._suffix(t, bucket, bucket.length) for t in part.split(self.width, dim=-1))
            out.append(self._joint(qs, ks, vs, kp, vp, bucket, bucket.eot_bias))
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
