"""2SFS computes what its published code computes: both stages, and inference on known and new classes."""

import json

import numpy as np
import pytest
import torch

from tests.golden import tiny_clip
from tests.golden.harness import DRIFT, Numbers, base_config, build, close, parametrise, weight_file

TOLERANCE = 2e-4  # of parameters after several AdamW steps, whose first ones are as long for tiny gradients as for large ones


def pytest_generate_tests(metafunc):
    parametrise(metafunc, "test_two_stage_golden")


def config(spec, weights, folder):
    args = spec["args"]
    pairs = {
        "DATASET.NUM_SHOTS": args["shots"], "OPTIM.LR": args["lr"], "OPTIM.WEIGHT_DECAY": args["wd"],
        "TRAINER.TWOSFS.PREC": "fp32", "TRAINER.TWOSFS.PEFT": args["peft"],
        "TRAINER.TWOSFS.MODALITY": args["ln_modality"] if args["peft"] == "ln" else args["encoder"],
        "TRAINER.TWOSFS.VISION_START": args["ln_vision_start"], "TRAINER.TWOSFS.TEXT_START": args["ln_text_start"],
        "TRAINER.TWOSFS.ITERS_PER_SHOT": args["n_iters"], "TRAINER.TWOSFS.FIRST_STAGE": args["n_iters_frac"],
    }  # fmt: skip
    return base_config("TwoSFS", "vit_b16", weights, folder, pairs)


def parameter(trainer, name):
    return dict(trainer.learner.named_parameters())[next(iter(trainer.adapt_state_dict("two_stage", {name: None})))]


def test_case(case, tmp_path, tmp_path_factory, golden_dir, monkeypatch):
    spec = json.loads(case.with_suffix(".json").read_text())
    numbers = Numbers(case, spec)
    weights = weight_file(spec["backbone"], golden_dir, tmp_path_factory.mktemp("tiny"))
    trainer = build({**spec, "trainer": "TwoSFS"}, config(spec, weights, tmp_path), monkeypatch)
    size, B = trainer.clip.image_size, spec["batch_size"]
    images = [tiny_clip.images(k, size, B) for k in range(5)]
    labels = [tiny_clip.labels(k, spec["n_cls"], B) for k in range(5)]
    tuned = [key for key in numbers.names("init") if key != "classifier"]
    unused = set(spec.get("stage1_without_gradient", ()))
    assert {f"tuned.{k.replace('.', '/')}" for k in set(tuned) - unused} == set(trainer.learner.state_dict()) - {"classifier"}
    trainer.set_model_mode("eval")
    close(trainer.model_inference(images[0]), numbers.data["logits0"], absolute=1e-4, what="logits0")
    losses = [*spec["loss_per_step_stage1"], *spec["loss_per_step_stage2"]]
    first = spec["stage1_steps"]
    assert (trainer.first_steps, trainer.total_steps) == (first, len(losses))
    trainer.set_model_mode("train")
    for step, expected in enumerate(losses):
        number = (step if step < first else step - first) % 5
        close(trainer.optim.param_groups[0]["lr"], spec["lr_per_step"][step], absolute=1e-10, what=f"learning rate {step}")
        loss = trainer.forward_backward({"img": images[number], "label": labels[number]})["loss"]
        close(loss, expected, absolute=max(1e-4, DRIFT * abs(expected) if step else 0), what=f"loss {step}")
        compare_step(trainer, numbers, tuned, step, first)
    close(trainer.learner.classifier, numbers.data["stage2/final/classifier"], relative=TOLERANCE, what="classifier")
    trainer.set_model_mode("eval")
    for number, names in enumerate([spec["classnames"], spec.get("new_classnames")]):
        if f"inference_classifier_{number}" in numbers:
            compare_inference(trainer, spec, numbers, number, names, images[number], tmp_path, weights, monkeypatch)


def compare_step(trainer, numbers, tuned, step, first):
    for prefix, at in (("step1", 0), ("step5", 4), ("stage1_end", first - 1)):
        for key in numbers.names(prefix) if step == at else ():
            if key in tuned and f"tuned.{key.replace('.', '/')}" in trainer.learner.state_dict():
                numbers.compare(parameter(trainer, key), f"{prefix}/{key}", relative=TOLERANCE)
    if step == 0:
        for key in numbers.names("grad0"):
            if key in tuned:
                numbers.compare(parameter(trainer, key).grad, f"grad0/{key}", relative=1e-4)
    if step == first:
        classifier = trainer.learner.classifier
        close(classifier.grad, numbers.data["stage2/grad0/classifier"], relative=2e-4, what="gradient of the classifier")
        close(classifier, numbers.data["stage2/step1/classifier"], relative=TOLERANCE, what="classifier after a step")


def compare_inference(trainer, spec, numbers, number, names, images, tmp_path, weights, monkeypatch):
    """The trained model with these classes: saved, and loaded by a trainer of theirs."""
    trainer.save_model(0, str(tmp_path / "saved"))
    other = build({**spec, "trainer": "TwoSFS", "classnames": names}, config(spec, weights, tmp_path / "other"), monkeypatch)
    other.load_model(str(tmp_path / "saved"), epoch=1)
    other.set_model_mode("eval")
    close(other.prepared().detach(), numbers.data[f"inference_classifier_{number}"], relative=TOLERANCE, what="rows")
    suffix = "all" if "logits_test_all" in numbers else ("base", "new")[number]
    expected = numbers.data[f"logits_test_{suffix}"]
    allowed = max(1e-4, 2 * DRIFT * np.abs(expected).max())
    close(other.model_inference(images), expected, absolute=allowed, what=f"logits of {suffix}")


@pytest.fixture(autouse=True)
def deterministic():
    torch.manual_seed(0)
