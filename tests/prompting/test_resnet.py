"""CLIP's ResNets compute less than open_clip's: the same features and gradients but for last bits, kept apart from others'."""

import copy

import pytest
import torch

from benchmarks.measure import as_open_clip_builds_them
from prompting import load_clip
from prompting.feature_cache import arithmetic
from prompting.resnet import OneQueryPool, rearrange


@pytest.fixture(scope="module")
def path(tiny_rn_state, tmp_path_factory):
    """A ResNet whose batch norms do something: CLIP's files have no ones and zeros there, either."""
    state = dict(tiny_rn_state)
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if ".bn" in name or ".downsample.1." in name:
            if name.endswith(("running_var", "weight")):
                state[name] = torch.rand(value.shape, generator=generator) + 0.5
            elif name.endswith(("running_mean", "bias")):
                state[name] = 0.3 * torch.randn(value.shape, generator=generator)
    path = tmp_path_factory.mktemp("weights") / "rn.pt"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def resnet(path):
    return load_clip("RN50", path)


@pytest.fixture(scope="module")
def plain(path):
    with as_open_clip_builds_them():
        return load_clip("RN50", path)


def kinds(module):
    return {type(m).__name__ for m in module.modules()}


def convolutions(clip):
    return [m.weight for m in clip.visual.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)]


def test_what_is_rearranged(resnet, plain):
    assert resnet.arrangement == "one query, folded batch norms, channels last" and plain.arrangement == ""
    assert convolutions(resnet) and all(w.is_contiguous(memory_format=torch.channels_last) for w in convolutions(resnet))
    assert {"BatchNorm2d", "AttentionPool2d"} <= kinds(plain.visual)
    assert not {"BatchNorm2d", "AttentionPool2d"} & kinds(resnet.visual) and "OneQueryPool" in kinds(resnet.visual)
    assert not any(p.requires_grad for p in resnet.parameters())
    assert resnet.weights["state_sha256"] == plain.weights["state_sha256"]  # of the values as the file has them


def test_features_are_open_clips(resnet, plain):
    images = torch.randn(5, 3, 64, 64)
    ours, theirs = (clip.encode_image(images, raw=True) for clip in (resnet, plain))
    exact = copy.deepcopy(plain.visual).double()(images.double())
    error, usual = ((x - exact).abs().max() / exact.abs().max() for x in (ours, theirs))
    assert error < 1e-6 and error < 3 * usual


def test_patches_are_open_clips(resnet, plain):
    images = torch.randn(2, 3, 64, 64)
    ours, theirs = (clip.encode_patches(images) for clip in (resnet, plain))
    assert ours.patches.shape == theirs.patches.shape and theirs.patches.abs().max() > 0
    assert (ours.patches - theirs.patches).abs().max() < 2e-6 * theirs.patches.abs().max()
    assert (ours.features - theirs.features).abs().max() < 2e-6 * theirs.features.abs().max()


def test_gradients_with_respect_to_pixels_are_open_clips(resnet, plain):
    images, direction, found = torch.randn(2, 3, 64, 64), torch.randn(resnet.embed_dim), []
    for clip in (resnet, plain):
        pixels = images.clone().requires_grad_()
        (clip.encode_image(pixels) @ direction).sum().backward()
        found.append(pixels.grad)
    assert (found[0] - found[1]).abs().max() < 1e-5 * found[1].abs().max()


def test_pooling_is_open_clips(plain):
    pool = copy.deepcopy(plain.visual.attnpool).double()
    found = []
    for module in (OneQueryPool(pool), pool):
        x = torch.randn(6, pool.k_proj.in_features, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        out = module(x.requires_grad_())
        found.append((out, *torch.autograd.grad(out.square().sum(), x)))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0 and torch.allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def test_pooling_in_half_precision_is_no_worse_than_open_clips(plain):
    """What a GPU computes under fp16: against double precision, the mean error of many images."""
    pool = copy.deepcopy(plain.visual.attnpool)
    x = torch.randn(200, pool.k_proj.in_features, 2, 2)
    exact = copy.deepcopy(pool).double()(x.double())
    errors = []
    for module in (OneQueryPool(pool), pool):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            errors.append((module(x.bfloat16()).double() - exact).abs().mean())
    assert 0 < errors[0] < 1.2 * errors[1]


def test_in_half_precision_batch_norms_stay(path):
    clip = load_clip("RN50", path, "bf16")
    assert clip.arrangement == "one query, channels last" and "BatchNorm2d" in kinds(clip.visual)


def test_on_a_gpu_pooling_alone_is_rearranged(plain):
    visual = copy.deepcopy(plain.visual)
    assert rearrange(visual, "cuda") == "one query"  # the device is asked for its kind alone
    assert "BatchNorm2d" in kinds(visual) and visual.conv1.weight.is_contiguous()
    assert rearrange(visual, "cuda") == ""  # once


def test_a_vit_stays_as_it_is(tiny_file):
    visual = load_clip("ViT-B/16", tiny_file).visual
    assert rearrange(visual, "cpu") == "" and visual.conv1.weight.is_contiguous()


def test_kept_features_depend_on_the_arrangement():
    assert arithmetic("cpu", "one query") != arithmetic("cpu")
