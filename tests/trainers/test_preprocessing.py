"""A run's images are those of its model, in training, evaluation and prediction, or the difference is an error or recorded."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from basics import UserError
from dassl.config import get_cfg_default, was_given
from dassl.data.transforms import build_transform
from inference import Predictor
from prompting import load_clip
from prompting.preprocessing import Preprocessing

PROJECT = Path(__file__).parents[2]


def model_folder(folder, **preprocess):
    """The built-in model with other entries in its preprocess_cfg."""
    shutil.copytree(PROJECT / "models" / "builtin", folder)
    file = folder / "open_clip_config.json"
    content = json.loads(file.read_text())
    content["preprocess_cfg"].update(preprocess)
    file.write_text(json.dumps(content))
    return str(folder)


OTHERS = {"mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "resize_mode": "squash"}
KEYS = {"mean": "PIXEL_MEAN", "std": "PIXEL_STD", "interpolation": "INTERPOLATION", "resize_mode": "RESIZE_MODE"}
KEYS = {entry: f"INPUT.{key}" for entry, key in KEYS.items()}


@pytest.fixture
def make(make_trainer, monkeypatch):
    """Function that makes a trainer of a model; the classes' names, which the built-in one never met, are no matter here."""
    monkeypatch.setattr("learning.building.names_never_met", lambda classnames, clip: [])

    def make(model, *pairs, method="CoOp", **more):
        own = ("MODEL.BACKBONE.NAME", model, "MODEL.BACKBONE.PATH", "", "INPUT.SIZE", "(64, 64)")
        return make_trainer(method, "builtin", *own, *pairs, **more)

    return make


@pytest.mark.parametrize("entry", OTHERS)
def test_each_property_that_differs_is_an_error_that_names_both(entry, make, tmp_path):
    model = model_folder(tmp_path / "model", **{entry: OTHERS[entry]})
    with pytest.raises(UserError) as error:
        make(model)
    text, shown = str(error.value), OTHERS[entry]
    assert text.startswith(KEYS[entry]) and f"(the model's: {shown})" in text and "INPUT.PREPROCESS" in text and "\n" not in text


@pytest.mark.parametrize("whose", ["model", "yaml"])
def test_what_is_meant_is_done_and_recorded(whose, make, tmp_path, capsys, image_root):
    model = model_folder(tmp_path / "model", **OTHERS)
    trainer = make(model, "INPUT.PREPROCESS", whose)
    log = capsys.readouterr().out
    trainer.train()
    assert ("WARNING: INPUT.PREPROCESS yaml: INPUT.RESIZE_MODE shortest (the model's: squash)" in log) == (whose == "yaml")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    used = results["config"]["INPUT"]
    mean = [0.5, 0.5, 0.5] if whose == "model" else [0.48145466, 0.4578275, 0.40821073]
    assert used["PIXEL_MEAN"] == mean and used["RESIZE_MODE"] == ("squash" if whose == "model" else "shortest")
    weights = results["weights"]
    assert weights["images"]["PIXEL_MEAN"] == [0.5, 0.5, 0.5] and weights["preprocess"] == whose
    assert sorted(weights["images_differ"]) == (sorted(KEYS.values()) if whose == "yaml" else [])
    steps = {type(t).__name__: t for t in Predictor(tmp_path / "run").transform.transforms}
    assert list(steps["Normalize"].mean) == mean and ("CenterCrop" in steps) == (whose == "yaml")
    trainer = make(model, "INPUT.PREPROCESS", whose, out="again")
    trainer.evaluate(str(tmp_path / "run"))
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["metrics"] == results["metrics"] and again["config"]["INPUT"] == used


def test_an_evaluation_with_other_images_says_so(make, tmp_path, capsys):
    model = model_folder(tmp_path / "model", **OTHERS)
    make(model, "INPUT.PREPROCESS", "model").train()
    capsys.readouterr()
    make(model, "INPUT.PREPROCESS", "yaml", out="again").evaluate(str(tmp_path / "run"))
    log = capsys.readouterr().out
    assert "evaluated with other settings" in log and "INPUT.RESIZE_MODE squash (now shortest)" in log


def test_what_nothing_sets_is_the_models(make_trainer, tmp_path, capsys):
    from dassl.config.node import CfgNode
    from learning.preprocessing import settled

    cfg = get_cfg_default()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", model_folder(tmp_path / "model", **OTHERS)])
    taken = settled(cfg)
    assert isinstance(taken, CfgNode) and (taken.INPUT.SIZE, taken.INPUT.PIXEL_STD) == ((64, 64), [1.0, 1.0, 1.0])
    assert "Images as" in capsys.readouterr().out and not was_given(cfg.INPUT, "PIXEL_MEAN")
    with pytest.raises(UserError, match="PIXEL_STD"):  # set, be it to the default
        cfg.merge_from_list(["INPUT.PIXEL_STD", str(cfg.INPUT.PIXEL_STD)])
        settled(cfg)


def test_the_models_activation_is_part_of_what_was_learned(make_trainer, tmp_path, capsys):
    make_trainer("CoOp", "vit_b16_ctxv1").train()
    assert "WARNING" in (log := capsys.readouterr().out) and "QuickGELU is taken" in log
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["weights"]["activation"] == "quick_gelu" and results["made_from"]["activation of CLIP"] == "quick_gelu"
    other = make_trainer("CoOp", "vit_b16_ctxv1", "MODEL.BACKBONE.ACTIVATION", "gelu", out="again")
    assert other.clip.activation == "gelu"
    with pytest.raises(UserError, match="activation of CLIP quick_gelu \\(now gelu\\)"):
        other.evaluate(str(tmp_path / "run"))
    with pytest.raises(UserError, match="activation of CLIP"):
        Predictor(tmp_path / "run", overrides=["MODEL.BACKBONE.ACTIVATION", "gelu"])


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(70, 50), (51, 90), (32, 32), (20, 31)])
def test_images_are_made_as_open_clip_makes_them(mode, interpolation, shape):
    cfg = get_cfg_default()
    channels = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    wanted = {"size": (32, 32), **channels, "interpolation": interpolation, "resize_mode": mode}
    for key, value in Preprocessing.read(wanted, 32, "here").settings().items():
        setattr(cfg.INPUT, key, value)
    cfg.INPUT.TRANSFORMS = ("normalize",)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    theirs = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**wanted), is_train=False)(image)
    assert torch.equal(build_transform(cfg, is_train=False)(image), theirs)


@pytest.mark.parametrize("entries, size, said", [
    ({"resize_mode": "tallest"}, 32, "resize_mode 'tallest' is unknown"), ({}, (32, 64), "32 x 64"),
    ({"interpolation": "nearest"}, 32, "interpolation 'nearest'"), ({"mean": [0.5]}, 32, "mean .0.5."),
    ({"resize_mode": "longest", "fill_color": 9}, 32, "fill_color 9"),
    ({"mode": "L"}, 32, "mode 'L'"),
])  # fmt: skip
def test_images_that_are_not_computed_here_are_refused(entries, size, said):
    with pytest.raises(UserError, match=said):
        Preprocessing.read(entries, size, "a model")


def test_a_model_with_another_vocabulary_or_context(tmp_path):
    import open_clip

    config = {"embed_dim": 32, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
              "text_cfg": {"context_length": 20, "vocab_size": 500, "width": 64, "heads": 1, "layers": 1}}  # fmt: skip
    for vocabulary, said in ((500, "500 tokens.*49,408"), (49408, "")):
        config["text_cfg"]["vocab_size"] = vocabulary
        torch.save(open_clip.model.CLIP(**config).state_dict(), tmp_path / "open_clip_pytorch_model.bin")
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        if said:
            with pytest.raises(UserError, match=said):
                load_clip(str(tmp_path))
    assert load_clip(str(tmp_path)).tokenizer.context_length == 20


def test_prompts_of_another_tokenizer_are_refused(make_trainer):
    trainer = make_trainer("CoOp", "vit_b16_ctxv1")
    with pytest.raises(UserError, match="wasn't made with the backbone's tokenizer"):
        trainer.plan([[[0, 7, 2], [0, 8, 2]]])
    with pytest.raises(UserError, match="77 at most"):
        trainer.plan([[[49406, *range(90), 49407]]])
