"""QuickGELU with one new tensor: the plain expression's values to the bit, its gradients, and in the image encoder."""

import pytest
import torch

from prompting import QuickGELU, load_clip
from prompting.activations import quick_gelu


def plain(x):
    return x * torch.sigmoid(1.702 * x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("learned", [False, True])
def test_values_are_the_plain_expressions_to_the_bit(dtype, learned):
    x = (4 * torch.randn(50, 70)).to(dtype).requires_grad_(learned)
    before = x.detach().clone()
    assert torch.equal(quick_gelu(x), plain(x)) and torch.equal(x, before)


def test_gradients_and_their_gradients():
    x = (3 * torch.randn(40, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(quick_gelu, x) and torch.autograd.gradgradcheck(quick_gelu, x)


def test_what_is_kept_for_backward_is_the_argument():
    kept = []
    x = torch.randn(10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        quick_gelu(x)
    assert kept == [x.data_ptr()]


def test_an_image_encoder_has_it_and_gives_the_same_features(tiny_file):
    clip, images = load_clip("ViT-B/16", tiny_file), torch.randn(3, 3, 32, 32)
    activations = [block.mlp.gelu for block in clip.visual.transformer.resblocks]
    assert activations and all(isinstance(a, QuickGELU) for a in activations)
    features = clip.encode_image(images, raw=True)
    for block in clip.visual.transformer.resblocks:
        block.mlp.gelu.forward = plain
    assert torch.equal(features, clip.encode_image(images, raw=True))


def test_a_gelu_stays(tiny_file):
    clip = load_clip("ViT-B/16", tiny_file, activation="gelu")
    assert not any(isinstance(m, QuickGELU) for m in clip.modules())
