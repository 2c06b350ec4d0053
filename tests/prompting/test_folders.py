"""Backbones by folder, by a name of the Hub's and by file: each is the model that it names, or one line says why not."""

import hashlib
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from basics import UserError, home
from basics.identity import deciding
from prompting import backbone_of, build_plan, hard_programs, load_clip
from tests.prompting.layouts import hugging_face

BUILTIN = home.PROJECT / "models" / "builtin"
CLIP_CONFIG = {  # of the tiny CLIP, as transformers writes it
    "model_type": "clip", "projection_dim": 64,
    "text_config": {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1, "num_hidden_layers": 2,
                    "eos_token_id": 49407, "hidden_act": "quick_gelu"},
    "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1, "num_hidden_layers": 2,
                      "image_size": 32, "patch_size": 8, "hidden_act": "quick_gelu"},
}  # fmt: skip
IMAGES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 2, "image_mean": [0.5, 0.5, 0.5]}


def outputs(clip, size=32):
    plan = build_plan([hard_programs("a photo of a {}.", ["cat", "big dog"])])
    with torch.no_grad():
        return clip.encode_image(torch.ones(1, 3, size, size), raw=True), clip.encode_text(plan, raw=True)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def clip_config(tiny_state):
    """CLIP_CONFIG with the tiny CLIP's sizes."""
    config = json.loads(json.dumps(CLIP_CONFIG))
    layers = lambda tower: len({n.split("resblocks.")[1].split(".")[0] for n in tiny_state if n.startswith(tower)})  # noqa: E731
    W, _, P, _ = tiny_state["visual.conv1.weight"].shape
    config["vision_config"].update(
        hidden_size=W, patch_size=P, num_hidden_layers=layers("visual.transformer"), num_attention_heads=W // 64,
        intermediate_size=len(tiny_state["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
    )  # fmt: skip
    config["text_config"].update(num_hidden_layers=layers("transformer"))
    return config


@pytest.fixture
def transformers_folder(clip_config, tiny_state, tmp_path):
    """Function: settings to change -> folder as ``CLIPModel.save_pretrained`` and its image processor write it."""

    def make(text=(), vision=(), images=IMAGES, **top):
        config = {**clip_config, **top}
        config["text_config"] = {**clip_config["text_config"], **dict(text)}
        config["vision_config"] = {**clip_config["vision_config"], **dict(vision)}
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        if images:
            (folder / "preprocessor_config.json").write_text(json.dumps(images))
        save_file({n: v.contiguous().clone() for n, v in hugging_face(tiny_state).items()}, folder / "model.safetensors")
        return folder

    return make


def test_folder_of_transformers(transformers_folder, tiny_file):
    folder = transformers_folder()
    clip = load_clip(str(folder))
    assert same(outputs(clip), outputs(load_clip("ViT-B/16", tiny_file)))
    assert clip.activation == "quick_gelu" and clip.weights["config_sha256"]
    images = backbone_of(str(folder)).images
    assert (images.size, images.interpolation, images.resize_mode, images.mean) == ((32, 32), "bilinear", "shortest", (0.5,) * 3)
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": IMAGES}))  # transformers 5
    assert backbone_of(str(folder)).images == images
    (folder / "processor_config.json").unlink()
    assert backbone_of(str(folder)).images is None


def test_gelu_of_transformers(transformers_folder, tiny_file):
    folder = transformers_folder({"hidden_act": "gelu"}, {"hidden_act": "gelu"})
    assert same(outputs(load_clip(str(folder))), outputs(load_clip("ViT-B/16", tiny_file, activation="gelu")))


@pytest.mark.parametrize("changes, words", [
    ({"model_type": "siglip"}, "model_type 'siglip'"),
    ({"text": {"hidden_act": "gelu"}}, "hidden_act ['gelu', 'quick_gelu']"),
    ({"vision": {"layer_norm_eps": 1e-6}}, "layer_norm_eps [1e-05, 1e-06]"),
    ({"text": {"eos_token_id": 7}}, "eos_token_id 7"),
    ({"vision": {"num_attention_heads": 0}}, "no configuration of a CLIP: ZeroDivisionError"),
    ({"text": {"hidden_size": 128}}, "don't fit"),
    ({"projection_dim": "x"}, "cannot be built"),
    ({"text": {"vocab_size": 1000}}, "eos_token_id 49407"),
    ({"images": {**IMAGES, "crop_size": 16}}, "crop_size [16, 16]"),
    ({"images": {**IMAGES, "resample": 0}}, "resample"),
    ({"images": {**IMAGES, "do_normalize": False}}, "do_normalize"),
])  # fmt: skip
def test_what_isnt_computed_is_refused(changes, words, transformers_folder):
    with pytest.raises(UserError) as error:
        load_clip(str(transformers_folder(**changes)))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_prefix_of_folders(monkeypatch, tmp_path):
    expected = load_clip("models/builtin")
    for name in (f"local-dir:{BUILTIN}", "local-dir:models/builtin"):
        clip = load_clip(name)
        assert same(outputs(clip, 64), outputs(expected, 64))
        assert all(clip.weights[key] == expected.weights[key] for key in ("state_sha256", "config_sha256", "checked"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, words in {"local-dir:nowhere": "no folder with", "local-dir:empty": "a folder without", "empty": "a folder without",
                        "local-dir:": "nothing is no folder"}.items():  # fmt: skip
        with pytest.raises(UserError, match=words) as error:
            load_clip(name)
        assert "open_clip_config.json" in str(error.value) and "\n" not in str(error.value)


def test_an_openai_name_beside_a_folder_of_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RN50").mkdir()  # of results, for example
    assert backbone_of("RN50").is_openais


def test_weights_of_a_folder(tmp_path):
    folder = shutil.copytree(BUILTIN, tmp_path / "model")
    weights = folder / "open_clip_model.safetensors"
    shutil.copy(weights, folder / "another.safetensors")
    load_clip(str(folder))  # its usual name decides
    weights.rename(folder / "third.safetensors")
    with pytest.raises(UserError, match="several files of weights .another.safetensors, third.safetensors"):
        load_clip(str(folder))
    (folder / "another.safetensors").unlink()
    load_clip(str(folder))
    (folder / "third.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights: expected open_clip_model.safetensors"):
        load_clip(str(folder))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Function: put a folder into the Hub's cache as org/model. There is no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HUGGINGFACE_HUB_CACHE", str(tmp_path / "hub"), raising=False)

    def keep(folder, revision="main"):
        place, commit = tmp_path / "hub" / "models--org--model", "0" * 40
        for part in ("blobs", "refs", f"snapshots/{commit}"):
            (place / part).mkdir(parents=True)
        (place / "refs" / revision).write_text(commit)
        for file in folder.iterdir():
            if file.is_file():
                blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
                shutil.copy(file, blob)
                os.symlink(blob, place / "snapshots" / commit / file.name)

    return keep


def test_models_of_the_hub(hub, transformers_folder, tiny_file):
    hub(BUILTIN)
    clip = load_clip("hf-hub:org/model")
    assert same(outputs(clip, 64), outputs(load_clip("models/builtin"), 64)) and clip.weights["checked"] == "the Hub"


def test_models_of_the_hub_in_transformers_format(hub, transformers_folder, tiny_file):
    hub(transformers_folder(), revision="v2")
    assert same(outputs(load_clip("hf-hub:org/model@v2")), outputs(load_clip("ViT-B/16", tiny_file)))


@pytest.mark.parametrize("name", ["hf-hub:org/other", "hf-hub:", "hf-hub:a/b/c", "hf-hub:org/model@v9"])
def test_models_that_the_hub_hasnt(name, hub):
    hub(BUILTIN)
    with pytest.raises(UserError) as error:
        load_clip(name)
    assert name in str(error.value) and "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_file_as_a_name(tiny_state, tiny_file):
    clip = load_clip(tiny_file, activation="quick_gelu")
    assert same(outputs(clip), outputs(load_clip("ViT-B/16", tiny_file)))
    with pytest.raises(UserError, match="MODEL.BACKBONE.ACTIVATION gelu or MODEL.BACKBONE.ACTIVATION quick_gelu") as error:
        load_clip(tiny_file)
    assert "\n" not in str(error.value)


def test_where_a_model_lies_is_no_part_of_a_runs_identity(transformers_folder, tiny_file, tmp_path):
    folder = transformers_folder()
    for name in (str(folder), f"local-dir:{folder}"):
        assert deciding({"MODEL": {"BACKBONE": {"NAME": name}}})["MODEL.BACKBONE.NAME"] == "mine"
    assert deciding({"MODEL": {"BACKBONE": {"NAME": tiny_file}}})["MODEL.BACKBONE.NAME"] == "tiny.pt"
    assert deciding({"MODEL": {"BACKBONE": {"NAME": "hf-hub:org/model"}}})["MODEL.BACKBONE.NAME"] == "hf-hub:org/model"
