"""What a method puts into the layers of a tower: learned rows, modules beside or after a block, changed projections.

The same description is read by the packed text tower, by the plain one and by the image encoder. Layers are counted from 0.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from basics import UserError

from .blocks import Block

PROJECTIONS = ("q", "k", "v", "o")


@dataclass
class Insertions:
    """Shapes: D width of the tower; n inserted rows; modules map [..., D] to [..., D] row by row.

    A text plan says where inserted rows stand (``build_plan``); in an image they stand behind the patches, where their place
    changes nothing: the attention has no mask and they have no position.

    Attributes:
        rows: {layer: [n, D]} rows that, before this layer, replace the inserted rows or, where there are none yet, join the
            others. In an image also [B, n, D].
        embedded_rows: [n, D] or [B, n, D] rows that join an image's tokens before ``ln_pre``; text prompts have theirs in the
            plan.
        beside: {layer: module} f(ln_1(x)), added to the block's output.
        after: {layer: module} f(x) in place of the block's output x.
        projections: {layer: {"q", "k", "v" or "o": module}} f(h), added to that projection of its input h.
        unshared: a module changes equal rows of different prompts in different ways (dropout), so nothing that prompts have in
            common may be computed once; the text tower then takes each prompt by itself.
        embedding: module, f(x) added to what the first layer gets: token embeddings without positions, or an image's tokens.
    """

    rows: dict = field(default_factory=dict)
    embedded_rows: torch.Tensor | None = None
    beside: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    projections: dict = field(default_factory=dict)
    embedding: nn.Module | None = None
    unshared: bool = False

    def __post_init__(self):
        unknown = {name for parts in self.projections.values() for name in parts} - set(PROJECTIONS)
        if unknown:
            raise ValueError(f"projections {sorted(unknown)}: only {', '.join(PROJECTIONS)} exist")
        for module in self._entries():
            if not isinstance(module, nn.Module):  # its parameters have to be found
                raise TypeError(f"{module!r} is no nn.Module")

    def _entries(self):
        projections = [module for parts in self.projections.values() for module in parts.values()]
        return [
            *self.beside.values(),
            *self.after.values(),
            *projections,
            *([] if self.embedding is None else [self.embedding]),
        ]

    def modules(self):
        """All modules, as one list of torch's."""
        return nn.ModuleList(self._entries())

    def first_layer(self):
        """The lowest layer with an insertion; what is below it is CLIP's own."""
        layers = [*self.rows, *self.beside, *self.after, *self.projections]
        return min(layers, default=0) if self.embedding is None and self.embedded_rows is None else 0

    def check(self, num_layers, name):
        """UserError for layers that a tower of ``num_layers`` layers doesn't have."""
        layers = {*self.rows, *self.beside, *self.after, *self.projections}
        missing = sorted(layer for layer in layers if not 0 <= layer < num_layers)
        if missing:
            raise UserError(
                f"{name} has {num_layers} layers, counted from 0: nothing can be inserted in {', '.join(map(str, missing))}"
            )


NOTHING = Insertions()


def run_block(block, i, x, insertions, mask=None, queries=None):
    """Block i of a tower on x [N, L, D], by the model's own computation but for what is inserted there.

    Args:
        mask: additive attention mask [L, L], or None.
        queries: compute the first so many rows alone, which still attend to all: [N, queries, D]. No mask then.
    """
    branches = insertions.projections.get(i, {})
    if branches or queries is not None:
        parts = Block(block)
        h = parts.ln_1(x)
        x = x[:, :queries]
        y = x + parts.ls_1(parts.attention(h, branches, mask, queries))
        y = y + parts.ls_2(parts.mlp(parts.ln_2(y)))
    else:
        y = block(x, attn_mask=mask)
    if i in insertions.beside:
        y = y + insertions.beside[i](Block(block).ln_1(x))
    return insertions.after[i](y) if i in insertions.after else y
