"""Our trainers compute the numbers that the published trainers compute.

Every case in ``--golden-dir`` (NAME.json beside NAME.npz, the format of tests/golden) is run: initial values in, then logits,
gradients and five optimiser steps compared. Tolerances are those of an exact restructuring in fp32.
"""

import json
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from prompting import unit
from tests.golden import tiny_clip
from tests.golden.harness import DRIFT, Numbers, build, close, config, parametrise, weight_file


def pytest_generate_tests(metafunc):
    parametrise(metafunc, "test_golden")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, pytestconfig):
    """Function: name of a tiny CLIP -> its weight file."""
    folder = tmp_path_factory.mktemp("tiny_clip")
    return lambda backbone: weight_file(backbone, pytestconfig.getoption("--golden-dir"), folder)


def views(trainer, key):
    """Our learned tensor behind a published parameter name, as (parameter, slice of it)."""
    name = key.removeprefix("prompt_learner.")
    parameters = dict(trainer.learner.named_parameters())
    if trainer.cfg.TRAINER.NAME != "MoCoOp":
        found = trainer.adapt_state_dict(trainer.model_name, {key: None})
        return parameters[next(iter(found)) if found and key not in found else name], slice(None)
    if name.startswith("ctx_"):
        _, side, number = name.split("_")
        start = sum(trainer.ctx_lengths[: int(number)])
        before = len(trainer.ctx_before[int(number)])
        end = start + trainer.ctx_lengths[int(number)]
        ctx = trainer.learner.ctx
        return ctx, slice(start, start + before) if side == "before" else slice(start + before, end)
    if name.startswith("image_encoder."):
        _, _, _, block, norm, leaf = name.split(".")
        return getattr(trainer.learner.norms[int(block)][norm], leaf), slice(None)
    ours = {"w": "correction", "gate.weight": "router.weight", "gate.bias": "router.bias"}[name]
    return parameters[ours], slice(None)


class Run:
    """A case and our trainer for it, from the case's initial values."""

    def __init__(self, case, weights, folder, monkeypatch):
        self.spec = spec = json.loads(case.with_suffix(".json").read_text())
        self.numbers = Numbers(case, spec)
        self.trainer = build(spec, config(spec, weights(spec["backbone"]), folder), monkeypatch)
        size, B = self.trainer.clip.image_size, spec["batch_size"]
        self.images = [tiny_clip.images(k, size, B) for k in range(5)]
        self.labels = [tiny_clip.labels(k, spec["n_cls"], B) for k in range(5)]
        if "labels_per_step" in spec:
            self.labels = [torch.tensor(labels) for labels in spec["labels_per_step"]]
        self.keys = self.numbers.names("init")
        for key in self.keys:
            parameter, part = views(self.trainer, key)
            value = self.numbers.initial(key, parameter[part].shape)
            if key not in spec.get("portable_init_override", [key] if "portable_init_override" not in spec else []):
                # what isn't drawn at random starts from the same values as the published code
                close(parameter[part], value, absolute=1e-6, what=f"initial {key}")
            with torch.no_grad():
                parameter[part] = value
        self.restart()

    def restart(self):
        self.trainer._prepared = None
        self.trainer.set_model_mode("eval")

    def compare_outputs(self, suffix, allowed=1e-4):
        """Logits, and features where the case has them, of batch 0."""
        trainer, numbers = self.trainer, self.numbers
        self.restart()
        close(trainer.model_inference(self.images[0]), numbers.data[f"logits0{suffix}"], absolute=allowed, what=f"logits{suffix}")
        for name, ours in parts_of_logits(trainer, self.images[0]).items():
            if name + suffix in numbers:
                close(ours, numbers.data[name + suffix], absolute=allowed, what=name + suffix)
        for name, ours in outputs(trainer, self.images[0]).items():
            if name + suffix in numbers.data.files:  # of a sample of raw features the lengths aren't known
                theirs = torch.from_numpy(numbers.data[name + suffix])
                close(ours, theirs / theirs.norm(dim=-1, keepdim=True), absolute=allowed, what=name + suffix)
        self.restart()

    def compare_learned(self, prefix, relative=1e-4, tensor=lambda parameter: parameter):
        for key in self.keys:
            parameter, part = views(self.trainer, key)
            value = tensor(parameter)
            if value is None:
                assert key in self.spec["learnable_without_grad"], f"{key} has no gradient"
                continue
            self.numbers.compare(value[part], f"{prefix}/{key}", relative=relative, what=f"{prefix} of {key}")


@torch.no_grad()
def outputs(trainer, images):
    """Features that a case may hold, under the golden files' names."""
    name = trainer.cfg.TRAINER.NAME
    if name in ("MaPLe", "IVLP", "VPT", "PromptSRC", "MultiModalAdapter", "TCP"):
        return {"text_features0": trainer.text_features(), "image_features0": trainer.encode_image(images)}
    if name == "MMRL":
        return {"text_features0": trainer.text_features(), "image_features0": trainer.encode_image(images)[:, 0]}
    if name.startswith("ExtrasLinearProbe"):
        return {"text_features0": trainer.text_features(), "image_features0": unit(trainer.encode_image(images))}
    if name == "TaskRes":
        return {"image_features0": trainer.encode_image(images)}
    if name == "CLIP_Adapter":
        features = trainer.clip.encode_image(images, raw=True)
        adapted = unit(trainer.learner(features))
        return {"image_features0": unit(features), "adapter_out0": adapted, "text_features": trainer.text_features()}
    return {}


@torch.no_grad()
def parts_of_logits(trainer, images):
    """Logits that a method fuses, under the golden files' names."""
    name = trainer.cfg.TRAINER.NAME
    if name.startswith("ExtrasLinearProbe"):
        features, text = trainer.encode_image(images), trainer.prepare()
        found = {"logits_similarity0": trainer.similarity(features, text)}
        return {**found, "logits_lp0": trainer.classified(features, text)} if trainer.fused else found
    if name != "MMRL":
        return {}
    features, text = trainer.encode_image(images), trainer.text_features()
    return {"logits_class0": 100 * features[:, 0] @ text.t(), "logits_rep0": 100 * features[:, 1] @ text.t()}


def teachers(trainer):
    """What a method compares with, under the names of the golden files."""
    name = trainer.cfg.TRAINER.NAME
    if name in ("KgCoOp", "ExtrasLinearProbeKgCoOp"):
        return {"kg_text_features_old": trainer.template_features}
    if name == "TCP":
        return {"tcp_text_features_old": trainer.template_features, "class_tokens0": trainer.class_tokens()}
    if name == "MMRL":
        return {"mmrl_text_features_clip": trainer.template_features}
    if name == "TaskRes":
        return {"base_text_features": trainer.learner.base_text_features}
    if name == "ProGrad":
        return {"zs_text_features": trainer.template_features}
    if name.startswith("ZeroshotCLIP"):
        return {"text_features": trainer.class_features}
    if name == "MoCoOp":
        return {"grouped_prototypes": trainer.training_targets().prototypes, "expert_text0": trainer.text_features()}
    return {}


# what a case says of the first step's losses: our name
FIRST_LOSSES = {
    "loss_text0": "loss_text", "loss_gate0": "loss_router", "loss_cls0": "loss_cls",
    "kg_score0": "loss_kg", "kg_ce0": "loss_ce", "lp_ce0": "loss_lp",
    "ce_class0": "ce_class", "ce_rep0": "ce_rep", "reg_image0": "reg_image", "reg_text0": "reg_text",
    "ce0": "loss_ce", "l1_text0": "l1_text", "l1_image0": "l1_image", "kl_logits0": "kl_logits",
}  # fmt: skip


class Mask(nn.Module):
    """The portable dropout mask of a step and a module: positions come first in it."""

    def __init__(self, trainer, name, rate):
        super().__init__()
        self.trainer, self.name, self.rate = [trainer], name, rate

    def forward(self, x):  # [N, L, D]
        if not self.training:
            return x
        step, (N, L, D) = self.trainer[0].sched.last_epoch, x.shape
        positions = 77 if not self.name.startswith("visual.") else L
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"dropout:{step}:{self.name}".encode())))
        kept = torch.from_numpy(rng.random((positions, N, D)) >= self.rate)[:L].transpose(0, 1)
        return x * kept / (1 - self.rate)


def use_portable_masks(trainer):
    for name, module in trainer.learner.named_modules():
        if hasattr(module, "dropout"):
            tower, layer, projection = name.split(".")
            leaf = "proj" if projection == "o" else f"{projection}_proj"
            place = f"{'visual.' if tower == 'image' else ''}transformer.resblocks.{layer}.attn.{leaf}"
            module.dropout = Mask(trainer, place, trainer.options.DROPOUT)


def test_case(case, weights, tmp_path, monkeypatch):
    run = Run(case, weights, tmp_path, monkeypatch)
    spec, trainer, numbers = run.spec, run.trainer, run.numbers
    for ours, theirs in zip(trainer.optim.param_groups if run.keys else (), spec.get("optim_groups", ())):
        for name in {"initial_lr", "momentum", "weight_decay", "betas", "eps", "nesterov"} & ours.keys() & theirs.keys():
            assert ours[name] == pytest.approx(theirs[name]), name
    if "masks" in spec.get("dropout", ""):
        use_portable_masks(trainer)
    if "train_logits_lp0" in numbers:
        with torch.no_grad():
            features, text = trainer.encode_image(run.images[0]), trainer.prepare()
            numbers.compare(trainer.classified(features, text, run.labels[0]), "train_logits_lp0", absolute=1e-4)
    if "train_logits0" in numbers:
        trainer.set_model_mode("train")
        close(trainer.model_inference(run.images[0]), numbers.data["train_logits0"], absolute=1e-4, what="logits in training")
    run.compare_outputs("")
    for name, ours in teachers(trainer).items():
        if name in numbers:
            numbers.compare(ours, name, absolute=1e-4)
    epochs = spec.get("epochs") or len(spec.get("learning_rates", ())) if "logits0_aggregated" in numbers else 0
    if epochs:
        return whole_training(run, epochs)
    trainer.set_model_mode("train")
    if "learning_rates" in spec:
        close(
            [group["lr"] for group in trainer.optim.param_groups], spec["learning_rates"], absolute=1e-10, what="learning rates"
        )
    for step in range(5 if run.keys else 0):
        if "lr_per_step" in spec:
            close(trainer.optim.param_groups[0]["lr"], spec["lr_per_step"][step], absolute=1e-10, what="learning rate")
        summary = trainer.forward_backward({"img": run.images[step], "label": run.labels[step]})
        compare_losses(summary, spec["loss_summary_steps_0_to_4"][step], step)
        if step == 0:
            run.compare_learned("grad0", tensor=lambda parameter: parameter.grad)
            for name, ours in FIRST_LOSSES.items():
                if name in spec.get("extra", {}):
                    close(summary[ours], spec["extra"][name], absolute=1e-4, what=name)
        if step in (0, 4):
            run.compare_learned(f"step{step + 1}")
    if run.keys:
        run.compare_outputs("_after5", max(1e-4, DRIFT * np.abs(numbers.data["logits0_after5"]).max()))


def compare_losses(summary, expected, step):
    for name in ("loss", "acc", "xe_loss", "kl_loss", "l1_text", "l1_image", "kl_logits", "loss_ce"):
        if name in expected and name in summary:
            allowed = 1e-6 if name == "acc" else max(1e-4, DRIFT * abs(expected[name]) if step else 0)
            close(summary[name], expected[name], absolute=allowed, what=f"{name}, step {step}")


def whole_training(run, epochs):
    """PromptSRC's weighted mean over epochs of one batch each, at the case's learning rates."""
    spec, trainer, numbers = run.spec, run.trainer, run.numbers
    rates = spec.get("lr_per_step") or spec["learning_rates"]
    losses = spec.get("loss_summary_all_steps") or spec["loss_summary_steps_0_to_4"]
    weights = spec["extra"].get("gpa_weights") or spec["extra"].get("gpa_weights_of_epochs")
    trainer.max_epoch = epochs
    close(torch.tensor(trainer.epoch_weights()), weights, absolute=1e-7, what="weights of the epochs")
    trainer.save_model = lambda *args, **kwargs: None
    for epoch in range(epochs):
        trainer.epoch = epoch
        for group in trainer.optim.param_groups:
            group["lr"] = rates[epoch]
        trainer.set_model_mode("train")
        summary = trainer.forward_backward({"img": run.images[epoch % 5], "label": run.labels[epoch % 5]})
        compare_losses(summary, losses[epoch], epoch)
        if epoch == 0 and numbers.names("grad0"):
            run.compare_learned("grad0", tensor=lambda parameter: parameter.grad)
        for prefix in (f"step{epoch + 1}", "last" if epoch + 1 == epochs else "step0"):
            if numbers.names(prefix):
                run.compare_learned(prefix)
        trainer.after_epoch()
    run.compare_learned("aggregated")
    run.compare_outputs("_aggregated", max(1e-4, DRIFT * np.abs(numbers.data["logits0_aggregated"]).max()))
