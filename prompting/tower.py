"""CLIP's text transformer, frozen and exact, computing only what reaches an end token.

The mask of CLIP's text encoder is causal, so nothing behind the end token matters and everything that prompts share at the
front (start token, context vectors) has the same activations in each of them. The tower therefore runs over a packed matrix
of T token positions: each group's prefix once, each prompt's own few tokens once. A suffix row attends to its group's prefix
keys and values in place (they are not copied per class) and, causally, to its own tokens. The last layer is computed for the
end tokens alone. All of this rearranges the published computation (77 positions for each prompt) and approximates nothing.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from basics import UserError

from .activations import quick_gelu
from .blocks import Block, is_clips
from .insertions import NOTHING
from .packed_attention import PackedAttention
from .plain_tower import PlainTower
from .plan import build_plan
from .reference import encode_reference
from .tokens import clip_tokenizer

MLP_ROWS = 4_096  # token positions that an MLP recomputes at a time


def has_clips_text(text):
    """Whether a text tower is built as CLIP's: causal, read at the end token, of open_clip's plain blocks."""
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    block = text.transformer.resblocks[0] if hasattr(getattr(text, "transformer", None), "resblocks") else None
    return (
        pool in ("argmax", "eos")
        and getattr(text, "attn_mask", None) is not None
        and is_clips(block)
        and getattr(text, "cls_emb", None) is None
    )


def text_tower(model, name="this backbone", tokenizer=None):
    """``TextTower`` of an open_clip model whose text tower is CLIP's, else ``PlainTower``; arguments and errors as theirs."""
    return (TextTower if has_clips_text(getattr(model, "text", model)) else PlainTower)(model, name, tokenizer)


def _check_tokenizer(text, tokenizer, name):
    """UserError unless a text tower reads its feature where the tokenizer puts the end of a prompt, and has its vocabulary."""
    rows, pool = text.token_embedding.num_embeddings, getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if tokenizer.size != rows if tokenizer.is_clips else tokenizer.size > rows:
        raise UserError(
            f"{name} has embeddings of {rows:,} tokens, but {tokenizer.name}, which its configuration means, has "
            f"{tokenizer.size:,}: its text_cfg must name the tokenizer that it was trained with (hf_tokenizer_name)"
        )
    if len(tokenizer.start) != 1 or len(tokenizer.end) != 1:
        raise UserError(
            f"{name}: {tokenizer.name} puts {len(tokenizer.start)} tokens before and {len(tokenizer.end)} behind a prompt; a "
            "causal text tower must have one start token, and one end token at which it is read"
        )
    end = tokenizer.end[0]
    read_at = rows - 1 if pool == "argmax" else getattr(text, "text_eos_id", getattr(text, "eos_id", None))
    if end != read_at:
        raise UserError(
            f"{name} is read at token {read_at} ({pool}), but {tokenizer.name} ends prompts with token {end}: another tokenizer "
            "than the one it was trained with"
        )


class TextTower(PackedAttention, nn.Module):
    """The frozen text half of an open_clip model.

    Args:
        model: open_clip ``CLIP`` (or ``CustomTextCLIP`` whose text tower is CLIP's causal transformer).
        name: the backbone's name, for messages.
        tokenizer: the model's Tokenizer; None for CLIP's own.

    Attributes:
        tokenizer: the same, for this tower's number of positions.
        activation: "gelu" or "quick_gelu".

    Raises:
        UserError: the text tower isn't CLIP's (not causal, not pooled at the end token, another block), or the tokenizer isn't
            the one that it was trained with.
    """

    def __init__(self, model, name="this backbone", tokenizer=None):
        super().__init__()
        text = getattr(model, "text", model)
        if not has_clips_text(text):
            raise UserError(f"{name}: its text tower isn't CLIP's (causal, read at the end token)")
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding  # [77, D]
        self.blocks = text.transformer.resblocks
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection  # [D, E]
        linear = isinstance(self.text_projection, nn.Linear)
        self.embed_dim = self.text_projection.out_features if linear else self.text_projection.shape[1]
        self.width = self.positional_embedding.shape[1]
        self.context_length = self.positional_embedding.shape[0]
        self.heads = Block(self.blocks[0]).heads
        self._quick = type(Block(self.blocks[0]).act).__name__ == "QuickGELU"
        self.activation = "quick_gelu" if self._quick else "gelu"
        self.tokenizer = (tokenizer or clip_tokenizer()).for_context(self.context_length)
        _check_tokenizer(text, self.tokenizer, name)

    compile = staticmethod(build_plan)  # programs -> Plan

    def embed(self, token_ids):
        """Token embeddings [..., D] of BPE ids, without positions."""
        return self.token_embedding(token_ids)

    def forward(self, plan, learned=None, checkpointing=False, insertions=NOTHING):
        """Encode every prompt of a plan.

        Args:
            plan: Plan, on the tower's device.
            learned: [N, D] learned vectors that the plan refers to, or None when it has none.
            checkpointing: recompute each layer in backward instead of keeping its activations, and its MLP, four times as
                wide as the layer, part by part.
            insertions: what a method puts into the layers. Where the plan says that prompts have other rows from a layer on,
                ``insertions.rows`` has their matrix; elsewhere its rows replace those that the programs call learned.

        Returns:
            [G, C, E] text features, not normalised; gradients flow to ``learned`` and to what is inserted.

        Raises:
            UserError, ValueError: an insertion in a layer that the tower, or in a place that the plan, doesn't have.
        """
        insertions.check(len(self.blocks), "the text tower")
        if insertions.embedded_rows is not None:
            raise ValueError("embedded_rows are an image's: a text prompt's first rows are the plan's learned vectors")
        later = plan.later
        if missing := later.keys() - insertions.rows.keys():
            raise ValueError(f"the plan has other rows from layer {min(missing)} on, but none are given")
        if insertions.unshared:
            return encode_reference(self, plan, learned, insertions, plan.longest, checkpointing)
        x, first = self._below(plan, learned, insertions)  # [T, D]
        last = len(self.blocks) - 1
        for i in range(first, len(self.blocks)):
            if i in insertions.rows:
                plan = later.get(i, plan)
                x = self._insert(x, plan, i in later, i, insertions.rows[i])
            if checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._layer, i, x, plan, i == last, self._mlp_in_parts, insertions, use_reentrant=False)
            else:
                x = self._layer(i, x, plan, i == last, self._mlp, insertions)
        x = self.ln_final(x)  # [G * C, D]: the end tokens, bucket by bucket
        x = self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection
        return x[plan.order]  # [G, C, E]

    def _below(self, plan, learned, insertions):
        """Packed tokens [T, D] before the first layer that isn't always the same for this plan, and its number.

        Where prompts are frozen words and the layers below the first insertion are frozen, too, these are computed once.
        """
        first = insertions.first_layer() if learned is None else 0
        frozen = [self.token_embedding.weight, self.positional_embedding]
        frozen += [p for block in self.blocks[:first] for p in block.parameters()]
        if not first or any(p.requires_grad for p in frozen):
            return self._embedded(plan, learned, insertions), 0
        kind = self.positional_embedding.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        marks = precision, [(p.data_ptr(), p._version, p.dtype) for p in frozen]
        if plan.kept.get(first, (None,))[0] != marks:
            with torch.no_grad():
                x = self._embedded(plan, learned, insertions)
                for i in range(first):
                    x = self._layer(i, x, plan, False, self._mlp, insertions)
            plan.kept = {first: (marks, x)}
        return plan.kept[first][1], first

    def _embedded(self, plan, learned, insertions):
        """What the first layer gets, [T, D]."""
        table = self.embed(plan.token_ids)  # [F, D]
        if learned is not None:
            table = torch.cat([table, learned.to(table.dtype)])  # [F + N, D]
        if insertions.embedding is not None:
            table = table + insertions.embedding(table)
        return table[plan.index] + self.positional_embedding[plan.position]

    @staticmethod
    def _insert(x, plan, rearranged, i, new):
        """Put rows ``new`` [n, D] where ``plan`` has them from layer i on: packed tokens [T, D] before it -> [T', D].

        rearranged: the plan is another one than below; its token ids are rows of x.
        """
        expected = plan.num_learned
        if len(new) < expected or not expected or (len(new) > expected and not plan.ragged):
            raise ValueError(f"{len(new)} rows are inserted before layer {i}, but the prompts have {expected} there")
        if rearranged:
            return torch.cat([x[plan.token_ids], new.to(x.dtype)])[plan.index]
        rows, which = plan.inserted
        return x.index_copy(0, rows, new.to(x.dtype)[which])

    def _layer(self, i, x, plan, last, mlp, insertions):
        """Layer i on the packed tokens [T, D]; the last one returns [G * C, D], the end tokens only."""
        block = Block(self.blocks[i])
        branches = insertions.projections.get(i, {})
        h = block.ln_1(x)
        if last:
            x = x.index_select(0, plan.readout)
            kv = block.project("kv", h, branches)
            h = h.index_select(0, plan.readout)
            o = self._attend_at_eot(block.project("q", h, branches), kv, plan)
        else:
            o = self._attend(block.project("qkv", h, branches), plan)
        x = x + block.ls_1(block.project_out(o, branches))
        x = x + block.ls_2(mlp(block, block.ln_2(x)))
        if i in insertions.beside:
            x = x + insertions.beside[i](h)
        return insertions.after[i](x) if i in insertions.after else x

    def _mlp(self, block, x):
        h = block.up(x)
        return block.down(quick_gelu(h) if self._quick else block.act(h))

    def _mlp_in_parts(self, block, x):
        return torch.cat([checkpoint(self._mlp, block, part, use_reentrant=False) for part in x.split(MLP_ROWS)])
