"""Plans: which row of [frozen | learned] stands at which position of which prompt, as integers built once.

A *program* is one prompt as a list of integers: a token id (>= 0), or ``learned(k)`` (< 0), a reference to row ``k`` of the
matrix of learned vectors. A *group* is a list of programs that start alike (one soft prompt with all class names, say). What
the programs of a group share at the front is its *prefix*: computed once, because the text tower's mask is causal. What is
left of each program is its *suffix*. Suffixes of one length form a *bucket*, a rectangle [groups, classes, length], so that
nothing, or next to nothing, is padded.

A prompt may have other rows from some layer of the tower on: rows that join it there, or that differ by class. A *later
program* says which: a list of integers, position j of the program before (>= 0) or ``learned(k)``, row k of the matrix that
is inserted before that layer. What the later programs of a group share is their prefix from that layer on.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import torch

NEG_INF = float("-inf")


def learned(k):
    """Reference to row ``k`` of the learned vectors, for use in a program."""
    return -1 - k


@dataclass
class Bucket:
    """Suffixes of one length: a rectangle of rows inside the packed token matrix, behind those of the buckets before.

    Shapes: G, C groups and classes of the whole plan; g, c those of this bucket; S its suffix length; P the longest prefix.
    """

    groups: torch.Tensor  # [g] group numbers
    classes: torch.Tensor  # [c] class numbers
    length: int  # S
    bias: torch.Tensor  # [1 or g, 1, 1, S, P + S] additive mask of the suffix' attention: 0 or -inf
    eot: torch.Tensor  # [g, c] position of the end token inside the suffix
    eot_bias: torch.Tensor  # [g, 1, c, 1, P + S] the same mask for the end token's row only
    all_groups: bool  # the bucket holds every group, in order

    @property
    def shape(self):
        """(g, c, S)"""
        return len(self.groups), len(self.classes), self.length

    @property
    def num_programs(self) -> int:
        """g * c"""
        return len(self.groups) * len(self.classes)


@dataclass
class Plan:
    """Everything integer about encoding G groups of C prompts each.

    ``index`` and ``position`` [T] say, for every row of the packed token matrix (prefixes first, then bucket by bucket),
    which row of the table [frozen tokens | learned vectors] it takes and which positional embedding is added.
    """

    programs: list  # [G][C] lists of integers
    token_ids: torch.Tensor  # [F] the frozen tokens that occur, each once
    index: torch.Tensor  # [T]
    position: torch.Tensor  # [T]
    prefix_length: int  # P, padded length of a prefix
    buckets: list
    readout: torch.Tensor  # [G * C] row of each program's end token in the packed matrix, bucket by bucket
    order: torch.Tensor  # [G, C] where program (g, c) stands in `readout`; 0 where group g has no program c
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    later: dict = field(default_factory=dict)  # {layer: Plan}, whose token_ids are rows of the packed matrix before it
    filled: tuple = ()  # (length, token id): each program is filled up, and all are laid out one after the other
    ragged: bool = False  # groups may have fewer programs, and programs refer to a part of the learned vectors
    _tiles: dict = field(default_factory=dict, repr=False)
    kept: dict = field(default_factory=dict, repr=False)  # {layer: (marks, packed tokens before it)}, the text tower's

    @property
    def num_groups(self) -> int:
        return len(self.programs)

    @property
    def num_classes(self) -> int:
        return max(map(len, self.programs))

    @property
    def num_tokens(self) -> int:
        """Token positions that the tower computes (padding included); the plain computation has 77 * G * C."""
        return len(self.index)

    @functools.cached_property
    def row_counts(self):
        """How many rows of the packed matrix are prefixes', and each bucket's."""
        return [self.num_groups * self.prefix_length, *(b.num_programs * b.length for b in self.buckets)]

    @functools.cached_property
    def longest(self):
        """Length of the longest program."""
        return max(len(program) for group in self.programs for program in group)

    @functools.cached_property
    def inserted(self):
        """Rows [m] of the packed matrix that are learned vectors, and the numbers [m] of these vectors."""
        rows = (self.index >= len(self.token_ids)).nonzero().flatten()
        return rows, self.index[rows] - len(self.token_ids)

    @functools.cached_property
    def num_learned(self) -> int:
        """Learned vectors that the programs refer to: 1 + the highest number."""
        return int(self.inserted[1].max()) + 1 if len(self.inserted[1]) else 0

    def to(self, device: Any) -> Plan:
        """The same plan with its tensors on ``device``."""
        device = torch.device(device)
        if device == self.device:
            return self
        move = {k: getattr(self, k).to(device) for k in ("token_ids", "index", "position", "readout", "order")}
        names = ("groups", "classes", "bias", "eot", "eot_bias")
        buckets = [replace(b, **{k: getattr(b, k).to(device) for k in names}) for b in self.buckets]
        later = {layer: plan.to(device) for layer, plan in self.later.items()}
        return replace(self, buckets=buckets, device=device, later=later, _tiles={}, kept={}, **move)

    def tile(self, copies: int, num_learned: int) -> Plan:
        """The plan repeated ``copies`` times, copy b using learned rows ``b * num_learned …`` (CoCoOp: one copy per image).

        Of rows that are inserted later, copy b uses those from b times their number on.
        """
        if copies not in self._tiles:
            later = {layer: _repeated(plan.programs, copies, plan.num_learned) for layer, plan in self.later.items()}
            repeated = _repeated(self.programs, copies, num_learned)
            self._tiles[copies] = build_plan(repeated, 0, True, later, self.filled).to(self.device)
        return self._tiles[copies]


def build_plan(programs, padding_allowance=0, ragged=False, later=None, filled=()):
    """Compile programs into a Plan.

    Args:
        programs: [G][C] lists of integers; every program begins with the start token and ends with the end token.
        padding_allowance: suffixes of neighbouring lengths are put into one bucket while this adds at most so many padded
            tokens per merge. 0 pads nothing (best on a CPU, where tokens are what costs); on a GPU fewer, larger kernels win.
        ragged: groups may have fewer programs than the longest; their features after their own are another program's.
        later: {layer: [G][C] later programs}, for layers from which on the prompts have other rows.
        filled: (length, token id) for a tower that isn't causal: nothing is shared, and each program, which needs no start
            token then, is filled up to that length.

    Returns:
        Plan on the CPU.

    Raises:
        ValueError: a program without start token; groups of different sizes without ``ragged``; later programs of other
            prompts, or in which a position doesn't exist.
    """
    if not ragged and len(set(map(len, programs))) > 1:
        raise ValueError(f"groups of {', '.join(map(str, map(len, programs)))} programs: all must have the same classes")
    if filled:
        return _filled(programs, *filled, ragged)
    plan, row_at = _layout(programs, padding_allowance)
    plan.ragged, before = ragged, programs
    for layer, those in sorted((later or {}).items()):
        if layer < 0 or list(map(len, those)) != list(map(len, programs)):
            raise ValueError(f"later programs at layer {layer}: one is needed for each prompt, from layer 0 on")
        for group, group_before in zip(those, before, strict=True):
            for program, program_before in zip(group, group_before, strict=True):
                if not program or max(program) >= len(program_before) or program[-1] != len(program_before) - 1:
                    raise ValueError(f"a later program at layer {layer} must end with the end token that was there before")
        packed = [
            [[row_at(g, c, row) if row >= 0 else row for row in program] for c, program in enumerate(group)]
            for g, group in enumerate(those)
        ]
        stage, row_at = _layout(packed, padding_allowance)
        plan.later[layer] = replace(stage, programs=those, ragged=ragged)
        before = those
    return plan


def _filled(programs, length, pad, ragged):
    """Plan whose index is [G * C * length]: every program by itself, filled up with token ``pad``."""
    flat = [program for group in programs for program in group]
    token_ids = sorted({pad} | {row for program in flat for row in program if row >= 0})
    row_of = {t: i for i, t in enumerate(token_ids)}
    rows = [[*program, *[pad] * (length - len(program))] for program in flat]
    index = [row_of[row] if row >= 0 else len(token_ids) - 1 - row for program in rows for row in program]
    first = [sum(map(len, programs[:g])) for g in range(len(programs))]
    classes = max(map(len, programs))
    order = [[at + c if c < len(group) else 0 for c in range(classes)] for at, group in zip(first, programs)]
    as_long = lambda values: torch.tensor(values, dtype=torch.long)  # noqa: E731
    position, ends = list(range(length)) * len(flat), [i * length + len(program) - 1 for i, program in enumerate(flat)]
    parts = (as_long(token_ids), as_long(index), as_long(position), 0, [], as_long(ends), torch.tensor(order))
    return Plan(programs, *parts, ragged=ragged, filled=(length, pad))


def _layout(programs, padding_allowance):
    """Plan of programs, and the function (group, class, position) -> row of its packed matrix."""
    prefix = [_common_prefix(group) for group in programs]
    P = max(prefix)
    token_ids = sorted({row for group in programs for program in group for row in program if row >= 0})
    row_of = {t: i for i, t in enumerate(token_ids)}
    table = lambda row: row_of[row] if row >= 0 else len(token_ids) - 1 - row  # noqa: E731

    index, position = [], []
    for group, length in zip(programs, prefix):
        rows = group[0][:length]
        index += [table(r) for r in rows] + [table(rows[-1])] * (P - length)  # padding is masked as key, never read as query
        position += list(range(length)) + [length - 1] * (P - length)

    lengths = [[len(program) - length for program in group] for group, length in zip(programs, prefix)]
    buckets, readout, where, first = [], [], {}, {}
    for groups, classes, S in _rectangles(lengths, padding_allowance):
        for g in groups:
            for c in classes:
                rows = programs[g][c][prefix[g] :]
                pad = S - len(rows)
                where[g, c], first[g, c] = len(readout), len(index)
                readout.append(len(index) + len(rows) - 1)
                index += [table(r) for r in rows] + [table(rows[-1])] * pad
                position += [min(prefix[g] + s, prefix[g] + len(rows) - 1) for s in range(S)]
        eot = torch.tensor([[lengths[g][c] - 1 for c in classes] for g in groups])
        bias, eot_bias = _biases([prefix[g] for g in groups], P, S, eot)
        every = groups == list(range(len(programs)))
        buckets.append(Bucket(torch.tensor(groups), torch.tensor(classes), S, bias, eot, eot_bias, every))
    order = torch.tensor([[where.get((g, c), 0) for c in range(max(map(len, programs)))] for g in range(len(programs))])
    as_long = lambda values: torch.tensor(values, dtype=torch.long)  # noqa: E731
    plan = Plan(programs, as_long(token_ids), as_long(index), as_long(position), P, buckets, as_long(readout), order)
    row_at = lambda g, c, j: g * P + j if j < prefix[g] else first[g, c] + j - prefix[g]  # noqa: E731
    return plan, row_at


def _repeated(programs, copies, num_learned):
    """[copies * G][C] programs; those of copy b refer to learned rows from ``b * num_learned`` on."""
    shift = lambda row, b: row if row >= 0 else row - b * num_learned  # noqa: E731
    return [[[shift(row, b) for row in program] for program in group] for b in range(copies) for group in programs]


def _common_prefix(group):
    """How many leading entries all programs of a group share; the end token always stays in the suffix."""
    shortest = min(map(len, group))
    first = group[0]
    length = 0
    while length < shortest - 1 and all(program[length] == first[length] for program in group):
        length += 1
    if length == 0:
        raise ValueError("every program must begin with the start token")
    return length


def _rectangles(lengths, padding_allowance):
    """Split the pairs (group, class) into rectangles of one suffix length: yields (groups, classes, length)."""
    patterns = defaultdict(list)
    for g, row in enumerate(lengths):
        patterns[tuple(row)].append(g)
    for row, groups in patterns.items():
        by_length = defaultdict(list)
        for c, n in enumerate(row):
            by_length[n].append(c)
        merged = []
        for n in sorted(by_length):
            if merged and len(groups) * (n - merged[-1][0]) * len(merged[-1][1]) <= padding_allowance:
                merged[-1] = (n, merged[-1][1] + by_length[n])
            else:
                merged.append((n, by_length[n]))
        for n, classes in merged:
            yield groups, classes, n


def _biases(prefix_lengths, P, S, eot):
    """Additive masks of a bucket: for all suffix rows, and for the end tokens' rows alone (see Bucket)."""
    uneven = [prefix_lengths[0]] if len(set(prefix_lengths)) == 1 else prefix_lengths
    seen = torch.arange(P) < torch.tensor(uneven)[:, None]  # [1 or g, P] prefix keys that exist
    causal = torch.ones(S, S, dtype=torch.bool).tril()  # [S, S]
    n = len(seen)
    allowed = torch.cat([seen[:, None].expand(n, S, P), causal.expand(n, S, S)], dim=-1)  # [1 or g, S, P + S]
    own = torch.arange(S) <= eot[..., None]  # [g, c, S]
    g, c = eot.shape
    at_eot = torch.cat([seen[:, None].expand(g, c, P), own], dim=-1)  # [g, c, P + S]
    to_bias = lambda mask: torch.zeros(mask.shape).masked_fill_(~mask, NEG_INF)  # noqa: E731
    return to_bias(allowed)[:, None, None], to_bias(at_eot)[:, None, :, None]
