"""Text towers of any kind, frozen: the model's own computation, with learned vectors among the token embeddings.

Towers that aren't causal (SigLIP, CLIPA, MobileCLIP-S), are read at a class token (CoCa) or are Hugging Face's compute every
prompt by itself, filled up as the model's tokenizer does. Nothing of them is written anew: the model's own text encoder runs on
the prompts' ids, and where a program has a learned vector, that takes the place of what the embedding gives.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from basics import UserError

from .blocks import Block
from .insertions import NOTHING
from .plan import build_plan
from .tokens import BEFORE, clip_tokenizer

PROMPTS = 64  # that are recomputed at a time


class _TextHalf(nn.Module):
    """The text half of an open_clip model whose text tower isn't a module of its own."""

    PARTS = ("transformer", "token_embedding", "ln_final", "text_pool_type")

    def __init__(self, model):
        super().__init__()
        for name in self.PARTS:
            setattr(self, name, getattr(model, name))
        if hasattr(model, "text_eos_id"):  # which open_clip 3.0 has not
            self.text_eos_id = model.text_eos_id
        self.positional_embedding, self.text_projection = model.positional_embedding, model.text_projection
        self.register_buffer("attn_mask", model.attn_mask, persistent=False)
        self._encode_text = type(model).encode_text

    def forward(self, text):
        return self._encode_text(self, text)


class PlainTower(nn.Module):
    """The frozen text half of an open_clip model, whatever it is.

    Args:
        model: open_clip's.
        name: the backbone's name, for messages.
        tokenizer: the model's Tokenizer; None for CLIP's own.

    Attributes: as of ``TextTower``, but for what belongs to its layers.

    Raises:
        UserError: a text tower that gives no feature, or whose vocabulary isn't the tokenizer's.
    """

    def __init__(self, model, name="this backbone", tokenizer=None):
        super().__init__()
        self.name = name
        self.text = model.text if hasattr(model, "text") else _TextHalf(model)
        self.token_embedding = self._embedding()
        self.width = self.token_embedding.embedding_dim
        self.embed_dim = self._embed_dim()
        self.tokenizer = tokenizer or clip_tokenizer()
        self.context_length = self.tokenizer.context_length
        self.activation = self._activation()
        rows = self.token_embedding.num_embeddings
        if self.tokenizer.size != rows if self.tokenizer.is_clips else self.tokenizer.size > rows:
            raise UserError(
                f"{name} has embeddings of {rows:,} tokens, but {self.tokenizer.name}, which its configuration means, has "
                f"{self.tokenizer.size:,}: its text_cfg must name the tokenizer that it was trained with (hf_tokenizer_name)"
            )
        self._stand_in = self.tokenizer.encode(BEFORE)[0]  # the id of learned vectors: no end, no filling, no highest one

    def _embedding(self):
        inner = getattr(self.text, "transformer", None)
        found = getattr(self.text, "token_embedding", None)
        if found is None and hasattr(inner, "get_input_embeddings"):
            found = inner.get_input_embeddings()
        if not isinstance(found, nn.Embedding) or getattr(self.text, "pool_type", "") == "none":
            raise UserError(f"{self.name}: its text tower ({type(self.text).__name__}) is unknown here; choose another CLIP")
        return found

    def _embed_dim(self):
        projection = getattr(self.text, "text_projection", None)
        if isinstance(projection, nn.Linear):
            return projection.out_features
        if projection is not None:
            return projection.shape[1]
        return self.width if hasattr(self.text, "token_embedding") else self.text.output_dim

    def _activation(self):
        if not hasattr(self.text, "token_embedding"):
            config = self.text.config
            return str(getattr(config, "hidden_act", None) or getattr(config, "activation_function", "its own"))
        kind = type(Block(self.text.transformer.resblocks[0]).act).__name__
        return "quick_gelu" if kind == "QuickGELU" else "gelu"

    text_projection = None  # which a method could change: not here

    @property
    def blocks(self):
        """UserError: layers into which a method puts something are CLIP's only."""
        raise self._no_layers()

    def _no_layers(self):
        return UserError(
            f"{self.name}: its text tower isn't CLIP's and is computed as a whole, so nothing can be learned inside its layers: "
            "choose a method that learns words (CoOp, CoCoOp, KgCoOp, ProGrad, MoCoOp) or on images, or a backbone with CLIP's "
            "text tower"
        )

    def compile(self, programs, padding_allowance=0, ragged=False, later=None):
        """Plan of programs, each filled up to the tower's length as the tokenizer does."""
        if later:
            raise self._no_layers()
        return build_plan(programs, ragged=ragged, filled=(self.context_length, self.tokenizer.pad))

    def embed(self, token_ids):
        """What the embedding gives for ids, [..., D], without positions."""
        return self.token_embedding(token_ids)

    def forward(self, plan, learned=None, checkpointing=False, insertions=NOTHING):
        """As ``TextTower.forward``: [G, C, E] text features, not normalised; UserError for insertions."""
        if insertions != NOTHING:
            raise self._no_layers()
        base = len(plan.token_ids)
        index = plan.index.reshape(-1, self.context_length)  # [N, L]
        ids = torch.cat([plan.token_ids, plan.token_ids.new_full((plan.num_learned,), self._stand_in)])[index]
        if learned is None or not plan.num_learned:
            return self._encode(ids)[plan.order]
        number = torch.where(index >= base, index - base, -1)  # of the learned vector, or -1
        if checkpointing and torch.is_grad_enabled():
            parts = zip(ids.split(PROMPTS), number.split(PROMPTS))
            features = torch.cat([checkpoint(self._encode, *part, learned, use_reentrant=False) for part in parts])
        else:
            features = self._encode(ids, number, learned)
        return features[plan.order]  # [G, C, E]

    def _encode(self, ids, number=None, learned=None):
        """Features [N, E] of ids [N, L], with rows of ``learned`` [n, D] where ``number`` [N, L] isn't -1."""

        def among(module, args, embedded):
            place = (number >= 0).unsqueeze(-1)
            return torch.where(place, learned[number.clamp_min(0)].to(embedded.dtype), embedded)

        hook = None if learned is None else self.token_embedding.register_forward_hook(among)
        try:
            features = self.text(ids)
        finally:
            if hook is not None:
                hook.remove()
        return features[0] if isinstance(features, tuple) else features
