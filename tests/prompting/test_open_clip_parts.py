"""CLIP's classes without the rest of open_clip: they compute what open_clip's do, which works as ever beside them."""

import subprocess
import sys

import open_clip
import pytest
import torch

from prompting import open_clip_parts
from prompting.byte_pairs import BytePairs
from prompting.initial_values import ShapesOnly, without_drawing
from tests.prompting.towers import VISION

SMALL = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1,
                                                            "layers": 2}}  # fmt: skip
RESNET = {**SMALL, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_tables_are_open_clips():
    theirs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    assert {name: config for name, config in theirs.items() if "vision_cfg" in config} == open_clip_parts.configs()
    assert open_clip_parts.pairs() == open_clip.list_pretrained()
    from open_clip.pretrained import get_pretrained_cfg

    assert all(open_clip_parts.pretrained_entry(*pair) == get_pretrained_cfg(*pair) for pair in open_clip.list_pretrained())


@pytest.mark.parametrize("config", [SMALL, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_the_same_model(config, quick_gelu):
    torch.manual_seed(0)
    theirs = open_clip.CLIP(**config, quick_gelu=quick_gelu).eval()
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    ours = open_clip_parts.build(config, quick_gelu).eval()
    assert torch.equal(torch.get_rng_state(), drawn) and type(ours) is not type(theirs)
    assert repr(ours) == repr(theirs)
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in theirs.state_dict().items())
    size = ours.visual.image_size
    images = torch.randn(2, 3, *(size if isinstance(size, tuple) else (size, size)))
    texts = open_clip.tokenize(["a cat", "a dog"])
    with torch.no_grad():
        assert torch.equal(ours.encode_image(images), theirs.encode_image(images))
        assert torch.equal(ours.encode_text(texts), theirs.encode_text(texts))


@pytest.mark.parametrize("config", [SMALL, RESNET], ids=["vit", "resnet"])
def test_without_initial_values_the_generator_comes_as_far(config):
    def build():
        return open_clip_parts.build(config, False)

    torch.manual_seed(3)
    weights = build().state_dict()
    after = torch.get_rng_state()
    for _ in range(2):  # the first time values are drawn, the second time what is kept says how far that leads
        torch.manual_seed(3)
        model = without_drawing(build, config)
        assert torch.equal(torch.get_rng_state(), after)
        model.load_state_dict(weights)
        buffers = zip(model.named_buffers(), build().named_buffers(), strict=True)
        assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in buffers)  # masks aren't in a file
    torch.manual_seed(4)
    without_drawing(build, config)
    other = torch.get_rng_state()
    torch.manual_seed(4)
    build()
    assert torch.equal(torch.get_rng_state(), other)
    with torch.device("meta"), ShapesOnly():
        shapes = {name: value.shape for name, value in build().state_dict().items()}
    assert shapes == {name: value.shape for name, value in weights.items()}


def test_tokens_are_open_clips_whether_kept_or_not():
    theirs = open_clip.tokenizer.SimpleTokenizer()
    texts = ["a photo of a cat.", "Déjà-vu, 12 <b>", "  X_y  ", "it's &amp; 1,000 naïve façades"]
    pairs = BytePairs()
    assert (pairs.sot_token_id, pairs.eot_token_id, pairs.vocab_size) == (
        theirs.sot_token_id, theirs.eot_token_id, theirs.vocab_size,
    )  # fmt: skip
    assert [pairs.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
    pairs._keep()
    later = BytePairs()
    assert [later.encode(text) for text in texts] == [theirs.encode(text) for text in texts] and later._tokenizer is None
    assert later.encode("another word") == theirs.encode("another word") and later._tokenizer is not None


def test_open_clip_and_timm_work_afterwards():
    """In one process: a plain model of ours, then open_clip's, one of timm's and torchvision's models."""
    code = f"""
import sys
from basics.light import install_torchvision
install_torchvision()
from torchvision import transforms
from prompting import open_clip_parts
model = open_clip_parts.build({SMALL!r}, False)
assert not {{"timm", "open_clip", "torchvision.ops"}} & set(sys.modules)
import torchvision.ops.misc
assert torchvision.ops.misc.FrozenBatchNorm2d(3).weight.shape == (3,)
import open_clip
timm = {{**{SMALL!r}, "vision_cfg": {{"timm_model_name": "resnet10t", "image_size": 64}}}}
model = open_clip.CLIP(**timm)
assert type(model.visual).__module__ == "open_clip.timm_model" and "timm" in sys.modules
from open_clip.utils import freeze_batch_norm_2d
assert type(freeze_batch_norm_2d(model.visual.trunk.bn1)).__module__.startswith(("torchvision", "timm"))
assert torchvision.transforms is transforms and torchvision.models.resnet18
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
