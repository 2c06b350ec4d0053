"""CLIP from every kind of file that users have, and a message for every way in which that fails."""

import json

import pytest
import torch
from torch import nn

from basics import home
from prompting import UserError, load_clip
from prompting.clip import OPENAI_NAMES


class Archive(nn.Module):
    """Something to script that has a given state dict, as OpenAI's TorchScript files do."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            owner = self
            *path, leaf = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            owner.register_buffer(leaf, value.half() if value.is_floating_point() and value.ndim else value)

    def forward(self, x):
        return x


def save(kind, state, folder):
    path = folder / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "TorchScript archive":
        torch.jit.script(Archive(state)).save(str(path))
    elif kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, str(path))
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}} if kind == "nested" else state, path)
    return str(path)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["TorchScript archive", "state dict", "nested", "safetensors"])
def test_local_files(kind, tiny_state, tiny_file, tmp_path):
    clip = load_clip("ViT-B/16", save(kind, tiny_state, tmp_path))
    assert (clip.image_size, clip.embed_dim, clip.width, round(clip.logit_scale, 3)) == (32, 64, 64, 100.0)
    assert not any(p.requires_grad for p in clip.parameters()) and not clip.training
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(clip.encode_image(x), load_clip("ViT-B/16", tiny_file).encode_image(x))


def test_resnet_stays_in_eval_mode(tiny_rn_state, tmp_path):
    clip = load_clip("RN50", save("state dict", tiny_rn_state, tmp_path)).train()
    assert clip.image_size == 64
    assert not any(m.training for m in clip.modules())


@pytest.mark.parametrize("precision, dtype", [("bf16", torch.bfloat16), ("amp", torch.float16), ("fp16", torch.float32)])
def test_precision_on_a_cpu(tiny_file, precision, dtype):
    exact, clip = load_clip("ViT-B/16", tiny_file), load_clip("ViT-B/16", tiny_file, precision)
    x = torch.randn(4, 3, 32, 32)
    ours, theirs = clip.encode_image(x), exact.encode_image(x)
    assert clip.dtype == dtype and ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float32: 1e-7}[dtype]


def test_open_clip_folder(tmp_path):
    import open_clip

    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
              "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}}  # fmt: skip
    model = open_clip.model.CLIP(**config)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    clip = load_clip(str(tmp_path))
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(clip.encode_image(x, raw=True), model.eval().encode_image(x), atol=1e-6)


def test_the_built_in_model_loads_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    clip = load_clip("models/builtin")
    assert (home.PROJECT / "models" / "builtin").is_dir() and clip.image_size == 64


def test_openai_names_are_open_clips():
    import open_clip

    pairs = set(open_clip.list_pretrained())
    assert all((name, "openai") in pairs for name in OPENAI_NAMES.values())


@pytest.mark.parametrize(
    "name, expected",
    [("ViT-B/17", "ViT-B/16"), ("RN51", "RN50"), ("ViT-B-16", "ViT-B-16/"), ("tests", "open_clip_config")],
)
def test_unknown_backbones(name, expected, monkeypatch):
    monkeypatch.chdir(home.PROJECT)
    with pytest.raises(UserError) as error:
        load_clip(name)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_no_weights_and_no_network(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("prompting.open_clip_parts.downloaded", offline)
    with pytest.raises(UserError) as error:
        load_clip("ViT-B/16")
    assert "MODEL.BACKBONE.PATH" in str(error.value) and "ViT-B-16.pt" in str(error.value)


def test_a_damaged_download_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".cache" / "clip"
    cache.mkdir(parents=True)
    (cache / "ViT-B-16.pt").write_bytes(b"half a file")
    with pytest.raises(UserError, match="wrong checksum"):
        load_clip("ViT-B/16")


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch hostile_was_here",)


def test_bad_files(tiny_state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("not weights")
    whole = save("state dict", tiny_state, tmp_path)
    (tmp_path / "cut.pt").write_bytes(open(whole, "rb").read()[:5000])
    without = {k: v for k, v in tiny_state.items() if k != "ln_final.bias"}
    torch.save(without, tmp_path / "fewer.pt")
    torch.save({**tiny_state, "visual.proj": torch.zeros(3, 3)}, tmp_path / "shapes.pt")
    torch.save({"x": Hostile()}, tmp_path / "hostile.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    for name in ("text.pt", "cut.pt", "fewer.pt", "shapes.pt", "hostile.pt", "other.pt", "missing.pt"):
        with pytest.raises(UserError) as error:
            load_clip("ViT-B/16", str(tmp_path / name))
        assert name in str(error.value) and "\n" not in str(error.value), name
    assert not (tmp_path / "hostile_was_here").exists()
