"""A plan of which each of several processes encodes a part (docs/parallel.md).

The prompts, expert after expert and class after class, are cut into one run of neighbours per process: most of what
they share at the front stays together.
"""

from dataclasses import dataclass, replace

import torch

from dassl.utils import parallel
from prompting import Plan


@dataclass
class SplitPlan:
    """This process' part of a plan of G groups of C programs."""

    programs: list  # [G][C], the whole
    part: Plan  # this process' programs, of g groups; its groups may have different numbers of classes, at most c
    rows: torch.Tensor  # [n] which of the part's g * c features are programs' (n = 1, a stand-in, if there are none)
    sizes: list  # programs of each process
    shape: tuple  # (G, C)
    num_tokens: int  # token positions that the process with the most of them computes: the same number in all processes
    copies: int = 1

    @classmethod
    def of(cls, programs, compile_plan):
        """Args: programs [G][C], the whole; compile_plan: ``build_plan``, or one for this run's device."""
        G, C = len(programs), len(programs[0])
        own = parallel.own_slice(G * C)
        pairs = [divmod(i, C) for i in range(own.start, own.stop)] or [(0, 0)]
        first, last = pairs[0][0], pairs[-1][0]
        groups = [[programs[g][c] for h, c in pairs if h == g] for g in range(first, last + 1)]
        part = compile_plan(groups, ragged=True)
        rows = [g * part.num_classes + c for g, group in enumerate(groups) for c in range(len(group))]
        rows = torch.tensor(rows, device=part.device)
        return cls(programs, part, rows, parallel.sizes(G * C), (G, C), parallel.largest(part.num_tokens))

    def tile(self, copies, num_learned):
        """As ``Plan.tile``: every process encodes its programs for each of the copies."""
        part = self.part.tile(copies, num_learned)
        return replace(self, part=part, copies=copies, num_tokens=copies * self.num_tokens)

    def encode(self, encode_part, learned):
        """Features [copies * G, C, E] of the whole plan, complete in every process, as is the gradient of ``learned``.

        Args:
            encode_part: function (Plan, learned) -> features [copies * g, c, E].
            learned: [N, D] learned vectors, or None.
        """
        features = encode_part(self.part, None if learned is None else parallel.shared(learned))
        own = features.reshape(self.copies, -1, features.shape[-1])[:, self.rows]  # [copies, n, E]
        whole = parallel.gather(own.transpose(0, 1).contiguous(), self.sizes)  # [G * C, copies, E]
        return whole.transpose(0, 1).reshape(self.copies * self.shape[0], self.shape[1], -1)
