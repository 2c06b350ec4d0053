"""CLIP's ResNets are laid out with the channels last on a CPU: the same features but for last bits, kept apart from others."""

import copy

import pytest
import torch

from prompting import load_clip
from prompting.feature_cache import arithmetic


@pytest.fixture(scope="module")
def resnet(tiny_rn_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "rn.pt"
    torch.save(tiny_rn_state, path)
    return load_clip("RN50", str(path))


def channels_first(clip):
    clip = copy.deepcopy(clip)
    clip.visual.to(memory_format=torch.contiguous_format)
    return clip


def convolutions(clip):
    return [m.weight for m in clip.visual.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)]


def test_a_resnets_convolutions_have_their_channels_last(resnet):
    assert resnet.layout == "channels last"
    assert convolutions(resnet) and all(w.is_contiguous(memory_format=torch.channels_last) for w in convolutions(resnet))


def test_features_are_those_of_the_files_layout(resnet):
    images = torch.randn(5, 3, 64, 64)
    ours, plain = (clip.encode_image(images, raw=True) for clip in (resnet, channels_first(resnet)))
    assert (ours - plain).abs().max() < 2e-6 * plain.abs().max()


def test_gradients_with_respect_to_pixels_are_those_of_the_files_layout(resnet):
    images, direction, found = torch.randn(2, 3, 64, 64), torch.randn(resnet.embed_dim), []
    for clip in (resnet, channels_first(resnet)):
        pixels = images.clone().requires_grad_()
        (clip.encode_image(pixels) @ direction).sum().backward()
        found.append(pixels.grad)
    assert (found[0] - found[1]).abs().max() < 1e-5 * found[1].abs().max()


def test_a_vits_layout_is_its_files(tiny_file):
    clip = load_clip("ViT-B/16", tiny_file)
    assert clip.layout == "" and clip.visual.conv1.weight.is_contiguous()


def test_kept_features_depend_on_the_layout():
    assert arithmetic("cpu", "channels last") != arithmetic("cpu")
