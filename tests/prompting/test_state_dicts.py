"""Weights are found and named in whatever way a program has saved them; what doesn't fit is one line with what was found."""

import re

import pytest
import torch
from safetensors.torch import save_file

from basics import UserError, home
from prompting import build_plan, hard_programs, load_clip
from prompting.architecture import config_of
from prompting.state_dicts import clip_state
from tests.prompting.layouts import TRAINED, hugging_face, prefixed


def outputs(clip):
    plan = build_plan([hard_programs("a photo of a {}.", ["cat", "big dog"])])
    with torch.no_grad():
        return clip.encode_image(torch.ones(1, 3, 32, 32), raw=True), clip.encode_text(plan, raw=True), clip.logit_scale


@pytest.fixture(scope="module")
def expected(tiny_file):
    return outputs(load_clip("ViT-B/16", tiny_file))


@pytest.mark.parametrize("way", TRAINED)
def test_however_they_are_saved(way, tiny_state, expected, tmp_path, capsys):
    torch.save(TRAINED[way](tiny_state), tmp_path / "trained.pth")
    clip = load_clip("ViT-B/16", str(tmp_path / "trained.pth"))
    found = outputs(clip)
    tolerance = 2e-2 if way == "half" else 0
    assert all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(found[:2], expected[:2], strict=True))
    assert found[2] == pytest.approx(expected[2], rel=1e-6 + tolerance)
    said = capsys.readouterr().out
    assert ("criterion.weight" in said) == (way == "Lightning, clip")
    assert ("state_dict_ema" in said) == (way == "averages beside")


@pytest.mark.parametrize("convert", [hugging_face, lambda s: prefixed("model.", s)], ids=["Hugging Face", "prefix"])
def test_safetensors(convert, tiny_state, expected, tmp_path):
    path = tmp_path / "weights.bin"  # by its contents, not by its name
    save_file({name: value.contiguous().clone() for name, value in convert(tiny_state).items()}, path)
    assert all(torch.equal(a, b) for a, b in zip(outputs(load_clip("ViT-B/16", str(path)))[:2], expected[:2], strict=True))


def test_the_format_before_pytorch_1_6(tiny_state, expected, tmp_path):
    torch.save({"model": tiny_state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = outputs(load_clip("ViT-B/16", str(tmp_path / "old.pth")))
    assert all(torch.equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True))


def test_resnets_weights(tiny_rn_state, tmp_path):
    torch.save({"state_dict": prefixed("module.", tiny_rn_state)}, tmp_path / "rn.pt")
    torch.save(tiny_rn_state, tmp_path / "plain.pt")
    a, b = (load_clip("RN50", str(tmp_path / name)).weights["state_sha256"] for name in ("rn.pt", "plain.pt"))
    assert a == b


def test_single_precision_is_kept(tiny_state, tmp_path):
    """OpenAI's code rounds what it loads to half precision; weights that were trained further aren't rounded here."""
    fine = {**tiny_state, "visual.proj": tiny_state["visual.proj"] + 1e-6}
    torch.save(fine, tmp_path / "fine.pt")
    assert torch.equal(load_clip("ViT-B/16", str(tmp_path / "fine.pt")).visual.proj, fine["visual.proj"])


def without(*names):
    return lambda s: {name: value for name, value in s.items() if name not in names}


def half_of_hugging_face(s):
    return {name: value for name, value in hugging_face(s).items() if "vision" not in name and "visual" not in name}


BAD = {  # what is in the file, and words of the message
    "a missing tensor": (without("ln_final.bias"), ["missing: ln_final.bias"]),
    "several": (without("ln_final.bias", "ln_final.weight", "visual.ln_pre.weight"), ["missing: visual.ln_pre.weight, ln_final"]),
    "an architecture": (without("text_projection"), ["text_projection is missing"]),
    "another": (lambda s: {**s, "head.weight": torch.ones(2, 2)}, ["not expected: head.weight"]),
    "a shape": (lambda s: {**s, "visual.ln_pre.weight": torch.zeros(3)}, ["visual.ln_pre.weight is 3 (expected: "]),
    "no matrix": (lambda s: {**s, "text_projection": torch.zeros(3)}, ["contradict each other"]),
    "quantised": (lambda s: {**s, "ln_final.bias": torch.zeros(64, dtype=torch.int8)}, ["ln_final.bias is torch.int8"]),
    "two models": (lambda s: {**prefixed("student.", s), **prefixed("teacher.", s)}, ["several CLIPs", "student.*, teacher.*"]),
    "two entries": (lambda s: {"a": s, "b": s}, ["several CLIPs, under a, b"]),
    "twice": (lambda s: {**s, "module.ln_final.bias": s["ln_final.bias"]}, ["ln_final.bias twice"]),
    "one tower": (half_of_hugging_face, ["visual.conv1.weight is missing"]),
    "no keys": (lambda s: without("text_model.encoder.layers.0.self_attn.k_proj.weight")(hugging_face(s)),
                ["transformer.resblocks.0.attn.in_proj_weight aren't all there"]),
    "a classifier": ({"fc.weight": torch.ones(2), "fc.bias": torch.ones(2)}, ["2 tensors, fc.weight, fc.bias", "Expected names"]),
    "prompts": ({"state_dict": {"prompt_learner.ctx": torch.ones(2)}}, ["state_dict has 1 tensors, prompt_learner.ctx"]),
    "no tensors": ({"epoch": 1}, ["its entries are epoch"]),
    "nothing": ({}, ["it is empty"]),
    "a list": ([1, 2], ["it is a list"]),
    "a tensor": (torch.ones(2, 3), ["one tensor, of shape [2, 3]"]),
    "a whole module": (torch.nn.Linear(2, 2), ["Linear; save its state_dict() instead"]),
    "escapes": (lambda s: {**s, "\x1b[31mhead": torch.ones(2)}, ["not expected: \\x1b[31mhead"]),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_said_in_one_line(what, tiny_state, tmp_path):
    content, words = BAD[what]
    path = tmp_path / "weights.pt"
    torch.save(content(tiny_state) if callable(content) and not isinstance(content, torch.nn.Module) else content, path)
    with pytest.raises(UserError) as error:
        load_clip("ViT-B/16", str(path))
    message = str(error.value)
    assert all(word in message for word in words), message
    assert str(path) in message and not re.search(r"[\n\x1b]", message) and len(message) < 1500


@pytest.mark.parametrize("name", ["ViT-B-32/laion2b_s34b_b79k", "models/builtin"])
def test_weights_of_another_architecture(name, tiny_file, monkeypatch):
    monkeypatch.chdir(home.PROJECT)
    with pytest.raises(UserError, match=f"don't fit {name}: .* tensors do; .*of other shapes: ") as error:
        load_clip(name, tiny_file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(10**6, 3, 1, 1), (0, 3, 8, 8), (64, 3, 0, 0)])
def test_forged_shapes_take_no_memory(shape, tiny_state, tmp_path):
    torch.save({**tiny_state, "visual.conv1.weight": torch.zeros(shape)}, tmp_path / "forged.pt")
    with pytest.raises(UserError, match="forged.pt"):
        load_clip("ViT-B/16", str(tmp_path / "forged.pt"))


def test_the_number_of_heads_is_the_architectures():
    """open_clip's larger models have heads of 80 to 104 channels, which the shapes don't show."""
    import open_clip

    for name in ("ViT-H-14", "ViT-bigG-14", "ViT-B-16", "RN50x4"):
        config = open_clip.get_model_config(name)
        with torch.device("meta"):
            state = open_clip.CLIP(**config).state_dict()
        ours = config_of(clip_state(dict(state), "x"), "x")
        assert ours["text_cfg"]["heads"] == config["text_cfg"]["heads"]
        assert ours["vision_cfg"].get("head_width") == config["vision_cfg"].get("head_width", 64)
        with torch.device("meta"):
            built = open_clip.CLIP(**ours).state_dict()
        assert {n: v.shape for n, v in built.items()} == {n: v.shape for n, v in state.items()}
