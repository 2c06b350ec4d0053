"""What each of several processes computes of one step (docs/parallel.md): its images, and its part of a plan's prompts.

The prompts, expert after expert and class after class, are cut into one run of neighbours per process: most of what
they share at the front stays together.
"""

from dataclasses import dataclass, replace

import torch

from dassl.utils import parallel
from prompting import Plan
from prompting.insertions import NOTHING


def call_shared(modules, function, *args):
    """``function(*args)``, which uses learned parameters of ``modules`` for this process' part of the work.

    The gradient of each of these parameters is the sum of all processes' gradients. Modules may have parameters, or modules, in
    common.
    """
    shares, replaced = {}, []
    try:
        for module in {id(m): m for root in modules if root is not None for m in root.modules()}.values():
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.requires_grad:
                    replaced.append((module, name, parameter))
                    if id(parameter) not in shares:
                        shares[id(parameter)] = parallel.shared(parameter)
                    module._parameters[name] = shares[id(parameter)]
        return function(*args)
    finally:
        for module, name, parameter in replaced:
            module._parameters[name] = parameter


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
    def of(cls, programs, compile_plan, later=None):
        """Args: programs [G][C], the whole; compile_plan: ``build_plan``, or one for this run's device; later: as there."""
        G, C = len(programs), len(programs[0])
        own = parallel.own_slice(G * C)
        pairs = [divmod(i, C) for i in range(own.start, own.stop)] or [(0, 0)]
        first, last = pairs[0][0], pairs[-1][0]
        cut = lambda whole: [[whole[g][c] for h, c in pairs if h == g] for g in range(first, last + 1)]  # noqa: E731
        groups = cut(programs)
        part = compile_plan(groups, ragged=True, later={layer: cut(those) for layer, those in (later or {}).items()})
        rows = [g * part.num_classes + c for g, group in enumerate(groups) for c in range(len(group))]
        rows = torch.tensor(rows, device=part.device)
        return cls(programs, part, rows, parallel.sizes(G * C), (G, C), parallel.largest(part.num_tokens))

    def tile(self, copies, num_learned):
        """As ``Plan.tile``: every process encodes its programs for each of the copies."""
        part = self.part.tile(copies, num_learned)
        return replace(self, part=part, copies=copies, num_tokens=copies * self.num_tokens)

    def encode(self, clip, learned, checkpointing=False, raw=False, insertions=NOTHING):
        """Features [copies * G, C, E] of the whole plan, complete in every process, as are the gradients of what is learned.

        Args: as ``CLIP.encode_text``.
        """
        share = lambda rows: None if rows is None else parallel.shared(rows)  # noqa: E731
        inserted = replace(insertions, rows={layer: share(rows) for layer, rows in insertions.rows.items()})
        features = call_shared(
            [insertions.modules(), clip.text], clip.encode_text, self.part, share(learned), checkpointing, raw, inserted
        )
        own = features.reshape(self.copies, -1, features.shape[-1])[:, self.rows]  # [copies, n, E]
        whole = parallel.gather(own.transpose(0, 1).contiguous(), self.sizes)  # [G * C, copies, E]
        return whole.transpose(0, 1).reshape(self.copies * self.shape[0], self.shape[1], -1)
