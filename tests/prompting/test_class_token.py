"""The image encoder's last block is computed for the class token alone where nothing else is read: the same features."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import as_open_clip_builds_them
from prompting import Insertions, load_clip
from prompting.image_tower import encode_tokens, reads_class_token


def vit(**options):
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(2)
    return VisionTransformer(32, 8, 64, 4, 2, 4.0, output_dim=48, **options).double().eval().requires_grad_(False)


class Adapter(nn.Module):
    """Not linear, and another one for each seed."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(64, 4, dtype=torch.float64), nn.Linear(4, 64, dtype=torch.float64)

    def forward(self, x):
        return self.up(self.down(x).relu())


def rows(*shape):
    return nn.Parameter(torch.randn(*shape, 64, dtype=torch.float64))


CASES = {
    "nothing": lambda: Insertions(),
    "rows before the last block": lambda: Insertions(embedded_rows=rows(2), rows={1: rows(2), 3: rows(2)}),
    "modules at the last block": lambda: Insertions(beside={3: Adapter()}, after={3: Adapter(), 2: Adapter()}),
    "projections of the last block": lambda: Insertions(projections={3: {name: Adapter() for name in "qkvo"}}),
}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("case", CASES)
def test_features_and_gradients_are_those_of_all_tokens(case, checkpointing):
    visual, insertions = vit(), CASES[case]()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    learned = [*insertions.rows.values(), *insertions.modules().parameters(), images]
    found, direction = [], torch.randn(48, dtype=torch.float64)
    for alone in (True, False):
        out = encode_tokens(visual, images, insertions, checkpointing, pooled_alone=alone)
        found.append((out.features, torch.autograd.grad((out.features @ direction).sum(), learned)))
    (ours, our_gradients), (theirs, their_gradients) = found
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        assert b.abs().max() > 0 and torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{"pool_type": "avg"}, {"attentional_pool": True, "attn_pooler_queries": 4}], ids=str)
def test_encoders_that_read_other_tokens_compute_them(options):
    visual = vit(**options)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert not reads_class_token(visual)
    ours = encode_tokens(visual, images, pooled_alone=True)
    assert torch.equal(ours.features, visual(images)) and ours.patches.shape == (2, 16, 64)


def test_dropout_draws_what_it_draws_for_all_tokens():
    visual, images = vit(), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    insertions = Insertions(projections={3: {"q": nn.Dropout(0.5), "k": nn.Dropout(0.5)}}, unshared=True)
    found = []
    for alone in (True, False):
        torch.manual_seed(7)
        found.append((encode_tokens(visual, images, insertions, pooled_alone=alone).features, torch.rand(1)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_clip_computes_less(tiny_file):
    with as_open_clip_builds_them():
        theirs = load_clip("ViT-B/16", tiny_file)
        images = torch.randn(2, 3, theirs.image_size, theirs.image_size)
        expected, plain_work = counted(theirs, images)
    ours = load_clip("ViT-B/16", tiny_file)
    found, work = counted(ours, images)
    assert ours.arrangement == "class token alone in the last block" and theirs.arrangement == ""
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
    blocks = len(ours.image_blocks)
    assert work / plain_work < 1 - 0.7 / blocks  # ten twelfths of a block's products but for the other tokens' attention
    assert ours.encode_patches(images).patches.shape[1] == 16


def counted(clip, images):
    """(features, floating-point operations)"""
    with FlopCounterMode(display=False) as counter:
        features = clip.encode_image(images.clone().requires_grad_(), raw=True)  # with gradients: no fused kernel, uncounted
    return features.detach(), counter.get_total_flops()
