"""Tip-Adapter and LP++ compute what their published code computes, on features that a recipe makes: there is no image encoder."""

import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prompting import unit
from tests.golden import tiny_clip
from tests.golden.harness import Numbers, base_config, build, close, parametrise, weight_file
from trainers.lp_plus_plus import step_sizes

TOLERANCE = 1e-4  # relative, of parameters after hundreds of steps


def pytest_generate_tests(metafunc):
    parametrise(metafunc, "test_feature_golden")


class Recipe:
    """Features and labels of a case (FORMAT-gfeat.md): class means and noise."""

    def __init__(self, spec):
        self.of = f = SimpleNamespace(**spec["features"])
        self.means = tiny_clip.standard_normal("feature:means", (f.n_cls, f.dim))
        noise = tiny_clip.standard_normal("feature:text", self.means.shape)
        self.text = unit(torch.from_numpy((self.means + f.text_noise * noise).astype(np.float32)))

    def labels(self, split):
        f = self.of
        if split == "train":
            return torch.arange(f.n_cls).repeat_interleave(f.shots)
        n = {"val": f.n_val, "test": f.n_test}[split]
        return torch.from_numpy(generator(f"feature:labels:{split}").integers(0, f.n_cls, n))

    def raw(self, split, view=0):
        labels = self.labels(split).numpy()
        noise = tiny_clip.standard_normal(f"feature:{split}:{view}", (len(labels), self.of.dim))
        return torch.from_numpy((self.means[labels] + self.of.noise * noise).astype(np.float32))

    def order(self, epoch):
        return generator(f"feature:order:{epoch}").permutation(len(self.labels("train")))


def generator(text):
    return np.random.Generator(np.random.PCG64(zlib.crc32(text.encode())))


class Case:
    """A case, its features, and our trainer of it, whose loaders are names of splits."""

    def __init__(self, stem, trainer, pairs, folder, golden_dir, monkeypatch):
        self.spec = spec = json.loads(stem.with_suffix(".json").read_text())
        self.numbers, self.recipe = Numbers(stem, spec), Recipe(spec)
        for split in ("val", "test"):
            assert self.recipe.labels(split).tolist() == self.numbers.data[f"{split}_labels"].tolist()
        self.numbers.compare(self.recipe.text, "text_features", absolute=1e-6)
        (folder / "weights").mkdir()
        weights = weight_file("tiny_clip_vit", golden_dir, folder / "weights")
        shots = {"DATASET.NUM_SHOTS": self.recipe.of.shots}
        names = [f"thing {i}" for i in range(self.recipe.of.n_cls)]
        build_it = lambda name: build(  # noqa: E731
            {**spec, "trainer": name, "classnames": names, "batch_size": 0},
            base_config(name, "rn50", weights, folder, {**shots, "MODEL.BACKBONE.NAME": "ViT-B/16", **pairs}), monkeypatch,
        )  # fmt: skip
        self.trainer = build_it(trainer)
        self.trainer.class_features = self.recipe.text
        count = {split: len(self.recipe.labels(split)) for split in ("val", "test")}
        items = {split: [SimpleNamespace(impath=f"{split}{i}") for i in range(n)] for split, n in count.items()}
        vars(self.trainer.dm.dataset).update(items, more_validation=lambda cfg, shots: items[self.searched()])
        self.trainer.test_loader = "test"
        self.trainer.loader_of = lambda those: "val" if those is items["val"] else "test"
        self.trainer.features_of = lambda split: (self.recipe.raw(split), self.recipe.labels(split))
        self.trainer.support = lambda views: (
            torch.stack([self.recipe.raw("train", view) for view in range(views)]), self.recipe.labels("train"),
        )  # fmt: skip

    def searched(self):
        """The split on which the published code searches."""
        return self.spec["tip"]["searched_on"] if "tip" in self.spec else "val"

    @torch.no_grad()
    def logits(self, split):
        self.trainer._prepared = None
        return self.trainer.logits(self.recipe.raw(split), self.trainer.prepared())

    def accuracy(self, split):
        return 100.0 * (self.logits(split).argmax(dim=1) == self.recipe.labels(split)).double().mean().item()

    def agrees(self, split, expected):
        """Whether the accuracy is the expected one, but for images whose two highest logits rounding may exchange."""
        first, second = self.logits(split).topk(2, dim=1).values.unbind(dim=1)
        ties = ((first - second) <= 1e-5 * first.abs().clamp_min(1)).double().mean().item()
        return abs(self.accuracy(split) - expected) <= 100 * ties + 6e-3


def tip_options(spec, search):
    given = spec["config"]
    own = {
        "SEARCH": search, "PREC": "fp32", "AUGMENT_EPOCH": given["augment_epoch"], "INIT_ALPHA": float(given["init_alpha"]),
        "INIT_BETA": float(given["init_beta"]), "SEARCH_SCALE": [float(end) for end in given["search_scale"]],
        "SEARCH_STEP": given["search_step"],
    }  # fmt: skip
    pairs = {f"TRAINER.TIPADAPTER.{name}": value for name, value in own.items()}
    return {**pairs, "OPTIM.LR": given["lr"], "OPTIM.MAX_EPOCH": given["train_epoch"]}


def test_case(case, tmp_path, golden_dir, monkeypatch):
    spec = json.loads(case.with_suffix(".json").read_text())
    {"tip_adapter": tip_adapter, "lp++": lp_plus_plus}[spec["lineage"]](case, spec, tmp_path, golden_dir, monkeypatch)


def tip_adapter(stem, spec, folder, golden_dir, monkeypatch):
    for name in ("training-free", "fine-tuned"):
        (folder / name).mkdir()
    search = "published" if spec["config"]["search_hp"] else "none"
    arguments = (tip_options(spec, search), folder / "training-free", golden_dir, monkeypatch)
    if "tip" in spec:
        training_free(Case(stem, "TipAdapter", *arguments))
    if "F" in spec:
        fine_tuned(Case(stem, "TipAdapterF", arguments[0], folder / "fine-tuned", golden_dir, monkeypatch))


def training_free(case):
    trainer, numbers, expected = case.trainer, case.numbers, case.spec["tip"]
    trainer.fill_cache()
    numbers.compare(trainer.learner.keys.t(), "cache_keys", absolute=1e-6)
    close(trainer.values(), numbers.data["cache_values"], absolute=0.0, what="values")
    for split in ("val", "test"):
        if f"tip/logits_{split}_zs" in numbers:
            ours = 100 * unit(case.recipe.raw(split)) @ case.recipe.text.t()
            numbers.compare(ours, f"tip/logits_{split}_zs", absolute=1e-4)
        if f"tip/logits_{split}_tip_init" in numbers:
            numbers.compare(case.logits(split), f"tip/logits_{split}_tip_init", absolute=1e-4)
    trainer.choose()
    compare_pair(trainer, expected)
    if "tip/logits_test_tip_best" in numbers:
        numbers.compare(case.logits("test"), "tip/logits_test_tip_best", absolute=1e-4)
    printed = expected["printed"][-1] if case.searched() == "val" else expected["improvements"][-1][2]
    assert case.accuracy("test") == pytest.approx(float(printed), abs=0.006)


def compare_pair(trainer, expected):
    beta, alpha = expected["best_beta_alpha"]
    assert (trainer.selection["beta"], trainer.selection["alpha"]) == (beta, alpha)


def fine_tuned(case):
    trainer, numbers, spec, expected = case.trainer, case.numbers, case.spec, case.spec["F"]
    trainer.fill_cache()
    numbers.compare(trainer.learner.keys, "F/init/adapter.weight", absolute=1e-6)
    size, images = spec["batch_size"], len(case.recipe.labels("train"))
    batches, trainer.total_steps = -(-images // size), spec["config"]["train_epoch"] * -(-images // size)
    trainer.sched = rebuilt_schedule(trainer, batches)
    trainer.save_model = trainer.test = lambda *args, **kwargs: None
    step = 0
    for epoch in range(trainer.max_epoch):
        trainer.epoch = epoch
        features, order = case.recipe.raw("train", trainer.epoch), case.recipe.order(trainer.epoch)
        trainer.set_model_mode("train")
        for start in range(0, images, size):
            rows = torch.from_numpy(order[start : start + size])
            close(trainer.optim.param_groups[0]["lr"], expected["lr_per_step"][step], absolute=1e-10, what="learning rate")
            if step == 0:
                numbers.compare(trainer.logits(features[rows], trainer.prepare()), "F/train_logits0", absolute=1e-4)
            summary = trainer.forward_backward({"img": features[rows], "label": case.recipe.labels("train")[rows]})
            close(summary["loss"], expected["loss_per_step"][step], absolute=1e-4, what=f"loss {step}")
            step += 1
            for name, number in (("grad0", 1), ("step1", 1), ("step5", 5)):
                if step == number and f"F/{name}/adapter.weight" in numbers:
                    ours = trainer.learner.keys.grad if name == "grad0" else trainer.learner.keys
                    numbers.compare(ours, f"F/{name}/adapter.weight", relative=TOLERANCE)
        assert case.agrees("test", expected["test_acc_per_epoch"][epoch])
        last = trainer.epoch + 1 == trainer.max_epoch
        for name, there in (("final", last), ("logits_test_epoch1", trainer.epoch == 0), ("logits_test_last_epoch", last)):
            if there and name == "final":
                numbers.compare(trainer.learner.keys, "F/final/adapter.weight", relative=TOLERANCE)
            elif there and f"F/{name}" in numbers:
                numbers.compare(case.logits("test"), f"F/{name}", absolute=1e-4)
        trainer.after_epoch()
    if trainer.options.SEARCH == "published":
        after_the_search(case, expected)


def rebuilt_schedule(trainer, batches):
    """The schedule for this many batches an epoch; the trainer was built without a loader."""
    trainer.train_loader_x = range(batches)
    trainer.sched = trainer.build_schedule()
    trainer._scheds[trainer.model_name] = trainer.sched
    return trainer.sched


def after_the_search(case, expected):
    trainer, numbers = case.trainer, case.numbers
    best, epoch = expected["best"]
    assert (trainer.best["accuracy"], trainer.best["epoch"] - 1) == (pytest.approx(best, abs=1e-3), epoch)
    printed = expected["final_printed"] if case.searched() == "val" else expected["improvements"][-1][2]
    assert case.accuracy("test") == pytest.approx(max(best, printed), abs=0.006)
    found, accuracy = trainer.search(case.recipe.raw(case.searched()), case.recipe.labels(case.searched()))
    assert [found["beta"], found["alpha"]] == expected["best_beta_alpha"]
    assert accuracy == pytest.approx(expected["improvements"][-1][2], abs=0.006)
    trainer.learner.weigh(found["alpha"], found["beta"])
    if "F/logits_test_after_search" in numbers:
        numbers.compare(case.logits("test"), "F/logits_test_after_search", absolute=1e-4)


def lp_plus_plus(stem, spec, folder, golden_dir, monkeypatch):
    pairs = {"OPTIM.MAX_EPOCH": spec["config"]["train_epoch"], "TRAINER.LINEARPROBE_P2.PREC": "fp32"}
    case = Case(stem, "LinearProbe_P2", {**pairs, "TRAINER.LINEARPROBE_P2.SELECT": "published"}, folder, golden_dir, monkeypatch)
    trainer, numbers, parameters = case.trainer, case.numbers, dict(case.trainer.learner.named_parameters())
    with torch.no_grad():
        trainer.learner.classifier.bias.copy_(numbers.initial("classifier.bias", trainer.learner.classifier.bias.shape))
    features, labels = unit(case.recipe.raw("train")), case.recipe.labels("train")
    numbers.compare(features, "train_features", absolute=1e-6)
    val = case.recipe.raw("val"), case.recipe.labels("val")
    by_step, chosen, best, steps = [], [], 0.0, trainer.steps(features, labels, trainer.cfg.OPTIM.MAX_EPOCH)
    gradients, first = first_gradients(trainer), {}
    trainer.learner.forward, plain = lambda f, text: first.setdefault("logits0", plain(f, text)), trainer.learner.forward
    for step, loss in enumerate(steps, 1):
        if step == 1:
            trainer.learner.forward = plain
            numbers.compare(first["logits0"], "logits0", absolute=1e-4)
            numbers.compare(parameters["alpha"], "init/alpha", relative=1e-5)  # its first step is the tenth
            for name in ("classifier.weight", "classifier.bias", "alpha"):
                numbers.compare(gradients[name], f"grad0/{name}", relative=TOLERANCE)
        close(loss, spec["loss_per_step"][step - 1], absolute=1e-4, what=f"loss {step}")
        for name in (*numbers.names(f"step{step}"), *(numbers.names("final") if step == len(spec["loss_per_step"]) else ())):
            prefix = f"step{step}" if f"step{step}/{name}" in numbers else "final"
            numbers.compare(parameters[name], f"{prefix}/{name}", relative=TOLERANCE)
        if f"alpha_grad_at_step{step}_accumulated" in numbers:
            numbers.compare(parameters["alpha"].grad, f"alpha_grad_at_step{step}_accumulated", relative=TOLERANCE)
        by_step.append(trainer.accuracy(*val))
        assert case.agrees("val", spec["val_acc_per_epoch"][step - 1]), f"step {step}"
        if by_step[-1] >= best:
            best = by_step[-1]
            chosen.append([step - 1, case.accuracy("test")])
    numbers.compare(case.logits("test"), "logits_test_final", absolute=1e-3)
    if by_step == pytest.approx(spec["val_acc_per_epoch"], abs=1e-3):  # no tie was broken in another way
        assert [step for step, _ in chosen] == [step for step, _ in spec["selected_epoch_and_test_acc"]]
        assert [a for _, a in chosen] == pytest.approx([a for _, a in spec["selected_epoch_and_test_acc"]], abs=1e-3)
        kept_model(case, spec)


def first_gradients(trainer):
    """{name: gradient} of the first backward pass, once there was one."""
    found = {}
    for name, parameter in trainer.learner.named_parameters():
        parameter.register_hook(lambda gradient, name=name: [found.setdefault(name, gradient.clone())] and None)
    return found


def kept_model(case, spec):
    """What ``fit`` keeps is the step that the published code tests last; the numbers that it computes first are the case's."""
    trainer = case.trainer
    with torch.no_grad():
        trainer.learner.classifier.bias.copy_(case.numbers.initial("classifier.bias", trainer.learner.classifier.bias.shape))
    trainer.fit()
    step, accuracy = spec["selected_epoch_and_test_acc"][-1]
    assert (trainer.selection["step"] - 1, trainer.selection["protocol"]) == (step, "published")
    assert case.accuracy("test") == pytest.approx(accuracy, abs=1e-3) == pytest.approx(spec["final_printed_test_acc"], abs=1e-3)
    similarity = unit(case.recipe.raw("train")) @ case.recipe.text.t()
    assert step_sizes(unit(case.recipe.raw("train")), similarity) == pytest.approx((spec["lr_w"], spec["lr_alpha"]), rel=1e-5)


@pytest.fixture(autouse=True)
def deterministic():
    torch.manual_seed(0)
