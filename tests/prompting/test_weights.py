"""Weight files are compared with the checksums that are known of them, and hashed."""

import hashlib
import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from basics import UserError
from prompting import load_clip, weights

BUILTIN = Path(__file__).parents[2] / "models" / "builtin"
NAME = "open_clip_model.safetensors"


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def with_a_bit_changed(path, rng):
    """Change one bit among the values, in the second half of the file."""
    content = bytearray(Path(path).read_bytes())
    at = rng.randrange(len(content) // 2, len(content) - 4096)
    content[at] ^= 1 << rng.randrange(8)
    Path(path).write_bytes(content)


def sums_beside_it(tmp_path):
    return shutil.copytree(BUILTIN, tmp_path / "model")


def fetched_into_a_folder(tmp_path):
    """As the Hub's client leaves a folder that it has downloaded a model to."""
    folder = sums_beside_it(tmp_path)
    (folder / "SHA256SUMS").unlink()
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / f"{NAME}.metadata").write_text(f"{'0' * 40}\n{sha256(folder / NAME)}\n1700000000.0\n")
    return folder


def hub_cache(tmp_path):
    """As the Hub's cache keeps it: a link to a file that is named by its hash."""
    folder, blobs = sums_beside_it(tmp_path), tmp_path / "blobs"
    (folder / "SHA256SUMS").unlink()
    blobs.mkdir()
    blob = blobs / sha256(folder / NAME)
    shutil.move(folder / NAME, blob)
    (folder / NAME).symlink_to(blob)
    return folder


@pytest.mark.parametrize("publish", [sums_beside_it, fetched_into_a_folder, hub_cache])
def test_every_changed_bit_is_noticed_where_a_checksum_is_known(publish, tmp_path):
    folder = publish(tmp_path)
    clip = load_clip(str(folder))
    assert clip.weights["sha256"] == sha256(BUILTIN / NAME) and clip.weights["checked"]
    whole, rng = (folder / NAME).read_bytes(), random.Random(0)
    for _ in range(10):
        with_a_bit_changed(folder / NAME, rng)
        with pytest.raises(UserError, match="wrong checksum"):
            load_clip(str(folder))
        (folder / NAME).write_bytes(whole)


def test_every_changed_bit_of_a_file_of_pytorch_is_noticed(tiny_state, tmp_path):
    path, rng = tmp_path / "tiny.pt", random.Random(0)
    torch.save(tiny_state, path)
    whole = path.read_bytes()
    reference = load_clip("ViT-B/16", str(path)).weights["state_sha256"]
    for _ in range(10):
        with_a_bit_changed(path, rng)
        try:
            assert load_clip("ViT-B/16", str(path)).weights["state_sha256"] == reference  # a bit of padding
        except UserError as error:
            assert "damaged" in str(error)
        path.write_bytes(whole)


def test_openais_archives_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "is_torchscript", lambda path: True)
    path = tmp_path / "ViT-B-16.pt"
    path.write_bytes(b"other weights")
    with pytest.raises(UserError, match="but OpenAI says 5806e77cd80f"):
        weights.check_file(path)
    monkeypatch.setitem(weights.OPENAI_CHECKSUMS, "ViT-B-16.pt", sha256(path))
    assert weights.check_file(path)["checked"] == "OpenAI"


def test_the_hash_of_the_values_is_the_same_in_every_format(tiny_state, tmp_path, capsys):
    torch.save(tiny_state, tmp_path / "a.pt")
    save_file({k: v.contiguous() for k, v in tiny_state.items()}, tmp_path / "b.safetensors")
    a, b = (load_clip("ViT-B/16", str(tmp_path / name)).weights for name in ("a.pt", "b.safetensors"))
    assert a["state_sha256"] == b["state_sha256"] and a["sha256"] != b["sha256"]
    assert (a["checked"], b["checked"]) == ("the file itself", "")
    assert "no checksum is known to compare it with" in capsys.readouterr().out


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tiny_state, tmp_path, value):
    state = {k: v.clone() for k, v in tiny_state.items()}
    state["token_embedding.weight"][7, 0] = value
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(UserError, match="token_embedding.weight holds values that are not finite"):
        load_clip("ViT-B/16", str(tmp_path / "nan.pt"))


def test_the_configuration_of_a_folder_is_hashed(tmp_path):
    folder = sums_beside_it(tmp_path)
    before = load_clip(str(folder)).weights
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config))  # the same in other words
    assert load_clip(str(folder)).weights["config_sha256"] == before["config_sha256"]
    file.write_text(json.dumps({**config, "model_cfg": {**config["model_cfg"], "quick_gelu": True}}))
    after = load_clip(str(folder)).weights
    assert after["config_sha256"] != before["config_sha256"] and after["state_sha256"] == before["state_sha256"]


def test_the_built_in_models_checksum_is_its_own():
    assert (BUILTIN / "SHA256SUMS").read_text().split() == [sha256(BUILTIN / NAME), NAME]
    assert load_file(BUILTIN / NAME) and not zipfile.is_zipfile(BUILTIN / NAME)
