"""The benchmark of evaluation times: it measures what trainers compute, and counts the text work exactly."""

import itertools
from argparse import Namespace

import pytest
import torch

from benchmarks import inference_time, training_step
from prompting import load_clip
from tests.golden.tiny_clip import images, state_dict

CLASSES, BATCH, IMAGES = 12, 2, 1000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(state_dict("tiny_clip_vit"), file)
    return load_clip("ViT-B/16", str(file))


@pytest.fixture(scope="module")
def methods(clip):
    templates = inference_time.home.PROJECT / "templates" / "eurosat.txt"
    return {name: inference_time.Method(name, clip, CLASSES, templates) for name in inference_time.RECIPES}


def test_what_is_timed_is_the_trainers_evaluation(clip, methods):
    batch = images(0, clip.image_size, BATCH)
    for name, method in methods.items():
        method.text()
        ours = method.images(clip.encode_image(batch))
        method.trainer._prepared = None
        assert torch.equal(ours, method.trainer.model_inference(batch)) and ours.shape == (BATCH, CLASSES), name


def test_work_and_ratios(clip, methods):
    rows = inference_time.measure(clip, list(methods.values()), BATCH, IMAGES, repeats=1)
    rows = {row["method"]: row for row in rows}
    plans = {"CoOp": "prompt_plan", "CoCoOp": "prompt_plan", "MoCoOp": "class_plan"}
    tokens = {name: getattr(methods[name].trainer, plan).num_tokens for name, plan in plans.items()}
    for name in ("CoOp", "MoCoOp"):  # once an evaluation
        assert rows[name]["text_positions_once"] == tokens[name]
        assert rows[name]["text_positions_per_image"] == tokens[name] / IMAGES
    assert rows["CoCoOp"]["text_positions_per_image"] == tokens["CoCoOp"]  # for every image
    assert rows["ZeroshotCLIP"]["text_positions_once"] > CLASSES
    assert rows["MoCoOp"]["text_to_cocoop"] == tokens["MoCoOp"] / IMAGES / tokens["CoCoOp"] <= 0.01
    assert rows["CoOp"]["time_to_coop"] == 1
    for row in rows.values():
        parts = row["seconds_encoder"] + row["seconds_method"] + row["seconds_once"] / IMAGES
        assert row["seconds_per_image"] == pytest.approx(parts) and row["seconds_encoder"] > 0
    assert not clip.text._forward_pre_hooks  # counting ends with the measurement


def test_variants_of_mocoop(clip, methods, monkeypatch):
    """Deep prompts cost no more text; with a meta-net an image's two experts are encoded for it."""
    monkeypatch.setitem(inference_time.VARIANTS, "MoCoOp, deep text", ("TRAINER.MOCOOP.PROMPT_DEPTH_TEXT", 2))
    variants = [inference_time.Method(name, clip, CLASSES, methods["MoCoOp"].trainer.cfg.TRAINER.MOCOOP.TEMPLATES)
                for name in inference_time.VARIANTS]  # fmt: skip
    measured = inference_time.measure(clip, [*methods.values(), *variants], 1, IMAGES, repeats=1)
    rows = {row["method"]: row["text_positions_per_image"] for row in measured}
    assert rows["MoCoOp, deep text"] == rows["MoCoOp"]
    plans = [plan.num_tokens for plan in variants[1].trainer.expert_plans]
    assert rows["MoCoOp, meta-net"] in {a + b for a, b in itertools.combinations(plans, 2)}


def test_table(clip, methods, capsys):
    rows = inference_time.measure(clip, list(methods.values()), 1, IMAGES, repeats=1)
    inference_time.print_table(rows)
    last = capsys.readouterr().out.splitlines()[-1]
    text = next(row["text_to_cocoop"] for row in rows if row["method"] == "MoCoOp")
    assert last.startswith("MoCoOp: at most ") and f"1/{1 / text:.0f} of CoCoOp's text work" in last


def test_invented_names_run_on_a_model_that_never_met_them(capsys):
    words = ["--classes", "3", "--images", "4", "--batch-sizes", "4", "--repeats", "1", "--backbone", "models/builtin"]
    inference_time.main(words)
    assert "MoCoOp: at most" in capsys.readouterr().out


def test_parts_of_a_training_step_are_the_whole_step(clip, methods):
    args = Namespace(templates=inference_time.home.PROJECT / "templates" / "eurosat.txt", batch_size=BATCH, repeats=2, parts=True)
    for name in training_step.METHODS:
        found = training_step.measure(clip, name, CLASSES, args)
        assert list(found["parts"]) == [*training_step.PARTS.values(), "rest"], name
        assert all(seconds > 0 for seconds in found["parts"].values()), (name, found)
