"""Every pair of model and weights that open_clip lists: activation, images and tokenizer are the weights', or it is refused.

Weights are simulated: nothing is downloaded, and models are made on the meta device. What is right is read from open_clip's own
lists, apart from the product's reading of them.
"""

import json
import sys

import open_clip
import pytest
import torch
from open_clip.factory import get_model_config
from open_clip.pretrained import get_pretrained_cfg, list_pretrained
from torch import nn

import prompting.clip
from basics import UserError
from learning.preprocessing import settled
from prompting import backbone_of, load_clip
from prompting.tower import TextTower
from tests.prompting import towers

PAIRS = list_pretrained()


@pytest.fixture
def transformers(monkeypatch):
    """A stand-in for the package, whose tokenizers have the vocabularies that the architectures have embeddings for."""
    texts = [get_model_config(model)["text_cfg"] for model, _ in PAIRS]
    entries = {text.get("hf_tokenizer_name"): text.get("vocab_size", 49_408) for text in texts}
    framed = {"facebook/xlm-v-base": ((0,), (2,)), "bert-base-uncased": ((0,), (2,))}
    towers.stand_in(monkeypatch, lambda name: towers.Words(entries[name], *framed.get(name, ((), (1,)))))
    yield
    prompting.tokens._own_tokenizer.cache_clear()


@pytest.fixture
def simulated(monkeypatch, tmp_path):
    """Function (pair, …) -> (open_clip's model, load_clip's CLIP of it), on the meta device and of one layer a tower."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("prompting.open_clip_parts.downloaded", lambda *_: str(file))
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(file))
    monkeypatch.setattr("open_clip.factory.load_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(prompting.clip, "check_file", lambda *_: {"file": str(file), "sha256": "", "checked": ""})
    monkeypatch.setattr(prompting.clip, "check_finite_weights", lambda *_: None)
    monkeypatch.setattr(prompting.clip, "state_hash", lambda *_: "")
    create, built, config_of = open_clip.create_model, {}, open_clip.factory.get_model_config

    def shallow(name):
        config = config_of(name)
        for part in (config["text_cfg"], config.get("vision_cfg", {})) if config else ():
            if "layers" in part:
                part["layers"] = [1] * 4 if isinstance(part["layers"], list) else 1
        return config

    def on_meta(name, *args, quick_gelu, **more):
        key = name, quick_gelu
        if key not in built:
            with torch.device("meta"):
                built[key] = create(name, *args, device="meta", quick_gelu=quick_gelu, **more)
            built[key].logit_scale = nn.Parameter(torch.zeros(()))
            if built[key].logit_bias is not None:
                built[key].logit_bias = nn.Parameter(torch.zeros(()))
        made.append(built[key])
        return built[key]

    def other_on_meta(backbone, quick_gelu):
        return on_meta(backbone.model, quick_gelu=quick_gelu, load_weights=False, pretrained_text=False)

    def plain_on_meta(path, config, quick_gelu, name):
        """As `on_meta`, of our copy of open_clip's classes."""
        with torch.device("meta"):
            model = prompting.open_clip_parts.build(shallow(prompting.clip.backbone_of(name, path).model), quick_gelu)
        model.logit_scale = nn.Parameter(torch.zeros(()))
        made.append(model)
        return model, config

    made = []
    monkeypatch.setattr("open_clip.factory.get_model_config", shallow)
    monkeypatch.setattr(open_clip, "create_model", on_meta)
    monkeypatch.setattr(prompting.clip, "_built", other_on_meta)
    monkeypatch.setattr(prompting.clip, "_plain_with_weights", plain_on_meta)
    monkeypatch.setattr(prompting.clip, "read_clip", lambda *_: {})
    monkeypatch.setattr(prompting.clip, "_load", lambda *_: None)

    def simulate(name, **more):
        clip = load_clip(name, device="meta", **more)
        return made.pop(), clip

    return simulate


def activations(module):
    """Names of the classes of the activations in MLPs: open_clip's, and our QuickGELU in the place of its own."""
    return {type(m.gelu).__name__ for m in module.modules() if isinstance(getattr(m, "gelu", None), nn.Module)}


def configuration(name, **given):
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", name, *(word for pair in given.items() for word in pair)])
    return cfg


@pytest.mark.timeout(600)
def test_every_pair(simulated, transformers, capsys):
    accepted, refused, silent, rows = [], {}, [], {}
    for model_name, tag in PAIRS:
        name, config, entry = f"{model_name}/{tag}", get_model_config(model_name), get_pretrained_cfg(model_name, tag)
        try:
            model, clip = simulated(name)
        except UserError as error:
            refused[name] = str(error)
            continue
        accepted.append(name)
        wanted = "QuickGELU" if entry.get("quick_gelu") else "GELU"
        wrong = [f"activation {found}" for found in (activations(model),) if found != {wanted}]
        wrong += ["recorded activation"] * (clip.weights["activation"] != ("quick_gelu" if entry.get("quick_gelu") else "gelu"))
        cfg = settled(configuration(name)).INPUT
        said = (tuple(cfg.PIXEL_MEAN), tuple(cfg.PIXEL_STD), cfg.INTERPOLATION, cfg.RESIZE_MODE, tuple(cfg.SIZE))
        size = model.visual.image_size
        right = (*(entry[key] for key in ("mean", "std", "interpolation", "resize_mode")),
                 tuple(size) if isinstance(size, (tuple, list)) else (size, size))  # fmt: skip
        wrong += [f"images {said}, not {right}"] * (said != right)
        own = json.dumps([config["text_cfg"].get(key) for key in ("hf_tokenizer_name", "tokenizer_kwargs", "context_length")])
        rows[own] = rows.get(own) or open_clip.get_tokenizer(model_name)(["a photo of a cat."])[0].tolist()
        row = rows[own]
        ours = clip.tokenizer.framed(clip.tokenizer.encode("a photo of a cat."))
        wrong += [f"tokens {ours}, not {row}"] * (row != ours + [clip.tokenizer.pad] * (len(row) - len(ours)))
        wrong += [f"{len(row)} positions, not {clip.tokenizer.context_length}"] * (len(row) != clip.tokenizer.context_length)
        silent += [(name, wrong)] * bool(wrong)
        causal = not any(config["text_cfg"].get(key) for key in ("no_causal_mask", "embed_cls"))
        wrong += ["another tower"] * (isinstance(clip.text, TextTower) != causal)
    assert not silent
    assert not {name: line for name, line in refused.items() if "\n" in line or name not in line}
    of_transformers = {f"{m}/{t}" for m, t in PAIRS if "hf_model_name" in get_model_config(m)["text_cfg"]}
    assert set(refused) == of_transformers and len(accepted) + len(refused) == len(PAIRS)  # they need the package itself
    both = "roberta-ViT-B-32/laion2b_s12b_b32k"  # its architecture has QuickGELU, its entry not
    assert "may have been trained with GELU or with QuickGELU" in refused[both]


@pytest.mark.skipif(("ViT-H-14-worldwide", "metaclip2_worldwide") not in PAIRS, reason="this open_clip doesn't know MetaCLIP 2")
def test_without_the_package_a_foreign_tokenizer_is_refused(simulated, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    prompting.tokens._own_tokenizer.cache_clear()
    with pytest.raises(UserError, match="facebook/xlm-v-base.* needs the package transformers"):
        simulated("ViT-H-14-worldwide/metaclip2_worldwide")


@pytest.mark.parametrize(
    "name", ["PE-Core-B-16/meta", "ViT-L-14/laion2b_s32b_b82k", "ViT-H-14-quickgelu/dfn5b", "MobileCLIP-B/datacompdr"]
)
def test_set_images_must_be_the_models_or_meant(name, capsys):
    own, clips = backbone_of(name).images.settings(), backbone_of("ViT-B/16").images.settings()
    set_keys = {f"INPUT.{key}": value for key, value in clips.items() if key != "SIZE"}
    differing = [key for key in set_keys if own[key[6:]] != clips[key[6:]]]
    with pytest.raises(UserError) as error:
        settled(configuration(name, **set_keys))
    assert all(f"{key} {set_keys[key]} (the model's: {own[key[6:]]})" in str(error.value) for key in differing)
    assert len(differing) and "\n" not in str(error.value)
    taken = settled(configuration(name, **set_keys, **{"INPUT.PREPROCESS": "model"})).INPUT
    assert {key: taken[key] for key in own} == own
    kept = settled(configuration(name, **set_keys, **{"INPUT.PREPROCESS": "yaml"})).INPUT
    assert {key: kept[key] for key in clips if key != "SIZE"} == {key: value for key, value in clips.items() if key != "SIZE"}
    warning = capsys.readouterr().out.splitlines()[-1]
    assert warning.startswith("WARNING: INPUT.PREPROCESS yaml") and all(key in warning for key in differing)


@pytest.mark.parametrize("name, activation", [("ViT-B-16/dfn2b", "quick_gelu"), ("ViT-B-16/laion2b_s34b_b88k", "gelu")])
def test_a_file_under_a_pairs_name_has_the_pairs_activation(name, activation, simulated, monkeypatch, tmp_path, capsys):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    monkeypatch.setattr(prompting.clip, "read_clip", lambda *_: {})
    monkeypatch.setattr(prompting.clip, "_load", lambda *_: None)
    model, clip = simulated(name, path=str(path))
    assert clip.activation == activation and len(activations(model)) == 1
    assert clip.weights["activation_said_by"] == f"open_clip's entry {name}"
    model, clip = simulated(name, path=str(path), activation="gelu")
    assert clip.activation == "gelu" and activations(model) == {"GELU"}
    assert ("WARNING: MODEL.BACKBONE.ACTIVATION gelu" in capsys.readouterr().out) == (activation != "gelu")


def test_a_bare_file_of_an_architecture_that_has_both_activations(simulated, monkeypatch, tmp_path):
    path = tmp_path / "RemoteCLIP-ViT-B-32.pt"
    path.write_bytes(b"")
    monkeypatch.setattr(prompting.clip, "read_clip", lambda *_: {})
    monkeypatch.setattr(prompting.clip, "_load", lambda *_: None)
    with pytest.raises(UserError, match="may have been trained with GELU or with QuickGELU.*MODEL.BACKBONE.ACTIVATION"):
        simulated("ViT-B-32", path=str(path))
    for activation in ("gelu", "quick_gelu"):
        assert simulated("ViT-B-32", path=str(path), activation=activation)[1].activation == activation
    assert simulated("ViT-B-32-quickgelu", path=str(path))[1].activation == "quick_gelu"  # its name says it
    assert simulated("ViT-g-14", path=str(path))[1].activation == "gelu"  # all its weights have it
    with pytest.raises(UserError, match="needs one of its pre-trained weights.*MODEL.BACKBONE.PATH"):
        simulated("ViT-B-32")


def test_an_architecture_whose_weights_have_different_images(monkeypatch, tmp_path, capsys):
    cfg = configuration("ViT-L-14", **{"MODEL.BACKBONE.PATH": "weights.pt"})
    with pytest.raises(UserError, match="which images ViT-L-14 was trained with, so INPUT.SIZE, .*INPUT.PIXEL_STD must be set"):
        settled(cfg)
    for key, value in backbone_of("ViT-B/16").images.settings().items():
        cfg.INPUT[key] = value
        setattr(cfg.INPUT, key, value)
    assert settled(cfg) is cfg and "WARNING: nothing says which images ViT-L-14" in capsys.readouterr().out
