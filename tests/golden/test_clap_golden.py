"""CLAP, ZS-LP and the adapters beside them compute what their published code computes on the support set's features."""

import json
import zlib

import numpy as np
import pytest
import torch

from dassl.metrics import compute_accuracy
from tests.golden import tiny_clip
from tests.golden.harness import DRIFT, Numbers, build, close, config, parametrise, weight_file

# After steps of learning rate 0.1, an input that differs by 1e-6 has moved the result by up to 6.7e-5 ("adaptative"): what is
# compared behind many steps may differ by some of that.
TOLERANCE = {"few": 1e-4, "many": 5e-4}


def pytest_generate_tests(metafunc):
    parametrise(metafunc, "test_clap_golden")


class Run:
    """A case, our trainer for it, and the features that it trains on."""

    def __init__(self, case, folder, weights_folder, golden_dir, monkeypatch):
        self.spec = spec = json.loads(case.with_suffix(".json").read_text())
        self.numbers = Numbers(case, spec)
        weights = weight_file(spec["backbone"], golden_dir, weights_folder)
        spec["opts"] += ["DATALOADER.TRAIN_X.BATCH_SIZE", spec["batch_size"]]
        self.trainer = trainer = build(spec, config(spec, weights, folder), monkeypatch)
        self.labels = [torch.tensor(labels) for labels in spec["labels_per_step"]]
        size, B = trainer.clip.image_size, spec["batch_size"]
        views = [self.encode(lambda k, v=v: batch(k, v, size, B)) for v in range(spec["extra"]["views"])]
        labels = torch.cat(self.labels)
        trainer.support = lambda count: (torch.stack(views), labels)
        self.features, self.rows = trainer.support_rows()
        self.test = self.encode(lambda k: tiny_clip.images(k, size, B))[: 2 * B]
        for key in self.numbers.names("init"):
            value = self.numbers.initial(key, self.parameter(key).shape)
            if key not in (*spec["portable_init_override"], "adapter.cache_keys"):
                close(self.parameter(key), value, absolute=1e-5, what=f"initial {key}")
            with torch.no_grad():
                self.parameter(key).copy_(value)
        trainer.start(self.features, self.rows)

    @torch.no_grad()
    def encode(self, images):
        return torch.cat([self.trainer.encode_image(images(k)) for k in range(5)])

    def parameter(self, key):
        found = self.trainer.adapt_state_dict("adapter", {key: None})
        return dict(self.trainer.learner.named_parameters())[next(iter(found))]

    def compare_learned(self, prefix, relative, tensor=lambda p: p):
        for key in self.numbers.names(prefix):
            theirs = self.numbers
            if prefix == "grad0" and "TipA" in self.spec["extra"]["init"]:  # as good as zero
                theirs.compare(tensor(self.parameter(key)), f"{prefix}/{key}", absolute=1e-6)
            else:
                theirs.compare(tensor(self.parameter(key)), f"{prefix}/{key}", relative=relative)

    def compare_logits(self, name, allowed=1e-4):
        B, data = self.spec["batch_size"], self.numbers.data
        with torch.no_grad():
            ours = self.trainer.logits(self.features[:B], self.trainer.prepare())
        close(ours, data[name], absolute=max(allowed, DRIFT * np.abs(data[name]).max()), what=name)

    def compare_summary(self, ours, theirs, step):
        allowed = max(1e-4, 2 * DRIFT * max(1.0, abs(theirs["loss"])) if step else 0)
        close(ours["loss"], theirs["loss"], absolute=allowed, what=f"loss {step}")
        assert ours["acc"] == pytest.approx(theirs["acc_train"]), step
        with torch.no_grad():
            logits = self.trainer.logits(self.test, self.trainer.prepare())
        accuracy = compute_accuracy(logits, torch.cat(self.labels)[: len(logits)])[0].item()
        assert accuracy == pytest.approx(theirs["acc_test"]), step


def batch(k, view, size, B):
    """View ``view`` of batch k."""
    if view == 0:
        return tiny_clip.images(k, size, B)
    return torch.from_numpy(tiny_clip.standard_normal(f"batch:{k}:view:{view}", (4, 3, size, size)).astype(np.float32)[:B])


def portable_order(epoch, count):
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"clap:shuffle:{epoch}".encode())))
    return torch.from_numpy(rng.random(count).argsort())


def test_case(case, tmp_path, tmp_path_factory, golden_dir, monkeypatch):
    run = Run(case, tmp_path, tmp_path_factory.mktemp("tiny"), golden_dir, monkeypatch)
    trainer, numbers = run.trainer, run.numbers
    base = trainer.learner.base_text_features
    close(base, numbers.data["base_text_features"], absolute=1e-4, what="text features")
    images = min(len(run.features), len(numbers.data["features_train"]))
    close(run.features[:images], numbers.data["features_train"][:images], absolute=1e-4, what="features")
    close(run.test, numbers.data["features_test"], absolute=1e-4, what="features of test images")
    assert run.rows[:images].tolist() == numbers.data["labels_train"].tolist()
    if "alpha_constraint0" in numbers:
        close(trainer._multipliers, numbers.data["alpha_constraint0"], absolute=1e-5, what="multipliers")
    trainer.set_model_mode("train")
    (whole_training if "lr_per_step" in run.spec else five_steps)(run)


def five_steps(run):
    spec, trainer, B = run.spec, run.trainer, run.spec["batch_size"]
    run.compare_logits("logits0")
    for step in range(5):
        rows = slice(step * B, (step + 1) * B)
        summary = trainer.forward_backward({"img": run.features[rows], "label": run.rows[rows]})
        run.compare_summary(summary, spec["loss_summary_steps_0_to_4"][step], step)
        if step == 0:
            run.compare_learned("grad0", TOLERANCE["few"], tensor=lambda p: p.grad)
        run.compare_learned(f"step{step + 1}", TOLERANCE["few"])
    run.compare_logits("logits0_after5")
    if "extra_constraint_after5" in spec:
        words = spec["extra"]["constraint"]
        penalty = (trainer._multipliers * trainer.learner.distance("l2" if "l2" in words else "cosine")).mean()
        close(penalty, spec["extra_constraint_after5"], absolute=1e-4, what="constraint")


def whole_training(run):
    """All epochs, by the trainer's own loop over rows."""
    spec, trainer, numbers = run.spec, run.trainer, run.numbers
    monkey = {"step": 0}
    plain = trainer.forward_backward
    trainer.train_loader_x, trainer._rows = [None] * 5, (run.features, run.rows)
    trainer.order = lambda count: portable_order(trainer.epoch, count)
    trainer.save_model = lambda *args, **kwargs: None
    before, after = [], []

    def forward_backward(part):
        step = monkey["step"]
        close(trainer.optim.param_groups[0]["lr"], spec["lr_per_step"][step], absolute=1e-9, what=f"learning rate {step}")
        summary = plain(part)
        run.compare_summary(summary, spec["loss_per_step"][step], step)
        if f"step{step + 1}" in ("step1", "step5"):
            run.compare_learned(f"step{step + 1}", TOLERANCE["few"])
        monkey["step"] += 1
        return summary

    trainer.forward_backward = forward_backward
    for epoch in range(trainer.max_epoch):
        trainer.epoch = epoch
        before.append(trainer._multipliers)
        trainer.run_epoch()
        trainer.after_epoch()
        after.append(trainer._multipliers)
    assert monkey["step"] == len(spec["lr_per_step"])
    run.compare_learned("final", TOLERANCE["many"])
    run.compare_logits("logits0_after_all", allowed=TOLERANCE["many"] * np.abs(numbers.data["logits0_after_all"]).max())
    if "alpha_per_epoch" in numbers and after[0] is not None:  # recorded before or after an epoch's outer step
        theirs = torch.from_numpy(numbers.data["alpha_per_epoch"])
        errors = [(torch.stack(found) - theirs).norm() / theirs.norm() for found in (before, after)]
        assert min(errors) < TOLERANCE["many"], errors
