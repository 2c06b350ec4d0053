"""CLIP's image encoder with insertions, and its patch tokens, computed by the model's own blocks."""

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from basics import UserError

from .blocks import is_clips
from .insertions import NOTHING, run_block


@dataclass
class ImageOutput:
    """What the image encoder gives beside the pooled feature.

    Attributes:
        features: [B, E] in the common space, not normalised.
        patches: [B, N, W] the patches' tokens after the last block (of a ResNet: after the last stage), before any norm.
        inserted: [B, n, W] inserted rows after the last block; n = 0 without any.
    """

    features: torch.Tensor
    patches: torch.Tensor
    inserted: torch.Tensor


def is_vit(visual):
    """Whether an image encoder is a transformer of open_clip's, into which something can be inserted."""
    return hasattr(visual, "transformer") and hasattr(visual, "class_embedding")


def reads_class_token(visual):
    """Whether an image's feature is a function of the class token after the last block, which is one of CLIP's."""
    return (
        is_vit(visual)
        and getattr(visual, "attn_pool", None) is None
        and getattr(visual, "pool_type", None) == "tok"
        and is_clips(visual.transformer.resblocks[-1])
    )


def encode_tokens(visual, images, insertions=NOTHING, checkpointing=False, name="this backbone", pooled_alone=False):
    """Encode images [B, 3, R, R] with insertions.

    Args:
        visual: open_clip's image encoder.
        checkpointing: recompute each block in backward instead of keeping its activations.
        name: the backbone's, for messages.
        pooled_alone: only the feature is wanted: where it is read at the class token, the last block computes no other. With
            ``insertions.unshared`` it computes all: dropout draws the same numbers as in the published computation.

    Returns:
        ImageOutput; with ``pooled_alone`` its other two attributes may be empty.

    Raises:
        UserError: the encoder isn't a ViT (a ResNet has patch tokens, but no place for insertions), or has fewer layers.
    """
    if not is_vit(visual):
        if insertions != NOTHING:
            raise UserError(
                f"{name}'s image encoder is no vision transformer of CLIP's kind: nothing can be learned inside it; "
                "choose a ViT, or a method that learns on the text side"
            )
        return _resnet_tokens(visual, images, name)
    blocks = visual.transformer.resblocks
    insertions.check(len(blocks), f"{name}'s image encoder")
    x = visual._embeds(images)  # [B, 1 + N, W], after ln_pre
    own = x.shape[1]
    if insertions.embedding is not None:
        x = x + insertions.embedding(x)
    if insertions.embedded_rows is not None:
        x = _with_rows(x, own, visual.ln_pre(insertions.embedded_rows))
    last = len(blocks) - 1 if pooled_alone and not insertions.unshared and reads_class_token(visual) else None
    for i, block in enumerate(blocks):
        queries = 1 if i == last else None
        if i in insertions.rows:
            x = _with_rows(x, own, insertions.rows[i])
        if checkpointing and torch.is_grad_enabled() and i >= insertions.first_layer():
            x = checkpoint(run_block, block, i, x, insertions, queries=queries, use_reentrant=False)
        else:
            x = run_block(block, i, x, insertions, queries=queries)
    pooled, _ = visual._pool(x[:, :own])
    features = pooled if visual.proj is None else pooled @ visual.proj
    return ImageOutput(features, x[:, 1:own], x[:, own:])


def _with_rows(x, own, rows):
    """The image's own tokens of x [B, L, W], and behind them rows [n, W] or [B, n, W]."""
    return torch.cat([x[:, :own], rows.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1)


def _resnet_tokens(visual, images, name):
    if not hasattr(visual, "attnpool"):
        raise UserError(f"{name}'s image encoder gives no patch tokens; choose a ViT or ResNet of CLIP's")
    seen = []
    hook = visual.attnpool.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        features = visual(images)
    finally:
        hook.remove()
    patches = seen[0].flatten(2).transpose(1, 2)  # [B, W, h, w] -> [B, h * w, W]
    return ImageOutput(features, patches, patches[:, :0])
