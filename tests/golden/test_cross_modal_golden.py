"""Cross-modal adaptation computes what its published code computes on features: steps, the chosen step, WiSE-FT."""

import json
import math
import zlib

import numpy as np
import pytest
import torch

from dassl.config import get_cfg_default
from learning.endless_batches import passes, train_head
from tests.golden.harness import Numbers, close, parametrise
from tests.golden.tiny_clip import standard_normal
from trainers.cross_modal import ClassifierHead


def pytest_generate_tests(metafunc):
    parametrise(metafunc, "test_cross_modal_golden")


class Features:
    """The case's inputs: means of classes, and noise by name."""

    def __init__(self, n_cls, shots, dim, templates, noise, text_noise, n_test):
        self.means, self.noise = standard_normal("feature:means", (n_cls, dim)), noise
        labels = np.repeat(np.arange(n_cls), shots)
        self.images = torch.cat([self.raw("train", view, labels) for view in (0, 1)]), torch.from_numpy(np.tile(labels, 2))
        text = self.means[:, None] + text_noise * standard_normal("feature:text", (n_cls, templates, dim))
        text = torch.from_numpy(text.astype(np.float32))
        self.texts = text.reshape(-1, dim), torch.arange(n_cls).repeat_interleave(templates)
        self.class_features = torch.nn.functional.normalize(text.mean(dim=1), dim=1)
        labels = np.repeat(np.arange(n_cls), min(shots, 4))
        self.val = self.raw("val", 0, labels), torch.from_numpy(labels)
        labels = np.random.Generator(np.random.PCG64(zlib.crc32(b"feature:labels:test"))).integers(0, n_cls, n_test)
        self.test = self.raw("test", 0, labels), torch.from_numpy(labels)

    def raw(self, split, view, labels):
        noise = self.noise * standard_normal(f"feature:{split}:{view}", (len(labels), self.means.shape[1]))
        return torch.from_numpy((self.means[labels] + noise).astype(np.float32))


def order(kind, count):
    """Function: number of the pass -> its rows."""
    rng = lambda k: np.random.Generator(np.random.PCG64(zlib.crc32(f"crossmodal:{kind}:{k}".encode())))  # noqa: E731
    return lambda k: torch.from_numpy(rng(k).permutation(count))


def optimiser(args):
    cfg = get_cfg_default().OPTIM
    pairs = {"NAME": "adamw", "LR": args["lr"], "WEIGHT_DECAY": args["weight_decay"], "MAX_EPOCH": args["iters"],
             "LR_SCHEDULER": "cosine", "WARMUP_EPOCH": args["warmup_iter"], "WARMUP_TYPE": "linear",
             "WARMUP_MIN_LR": 1e-5}  # fmt: skip
    for name, value in pairs.items():
        cfg[name] = value
    return cfg


def accuracy(logits, labels):
    return (logits.argmax(dim=1) == labels).float().mean().item()


def test_case(case):
    spec = json.loads(case.with_suffix(".json").read_text())
    numbers, args, given = Numbers(case, spec), spec["args"], Features(**spec["features"])
    n_cls, dim = given.means.shape
    learner = ClassifierHead(n_cls, dim, args["classifier_head"] == "adapter")
    if args["classifier_init"] == "zeroshot":
        close(
            given.class_features, numbers.data[f"init/{'head.1' if len(spec['portable_init']) else 'head'}.weight"], absolute=1e-6
        )
    learner.load_state_dict({key: numbers.initial(key, ()) for key in numbers.names("init")})
    half = args["batch_size"] // 2 if args["modality"] == "cross_modal" else 0
    batches = [passes(given.images, args["batch_size"] - half, order("image", len(given.images[1])))]
    batches += [passes(given.texts, half, order("text", len(given.texts[1])))] if half else []
    scale, found = math.exp(args["logit"]), []

    def seen(step, rate, loss, logits):
        if step in (1, 5):
            for key, value in learner.state_dict().items():
                numbers.compare(value, f"step{step}/{key}", relative=1e-4)
        if step == 0:
            close(logits, numbers.data["logits_first_batch"], absolute=1e-4, what="logits of the first batch")
        if step == 1:
            for key, value in learner.named_parameters():
                numbers.compare(value.grad, f"grad0/{key}", relative=1e-4)
        close(rate, spec["lr_per_step"][step], absolute=1e-9, what=f"learning rate {step}")
        close(loss, spec["loss_per_step"][step], absolute=2e-4, what=f"loss {step}")

    def check():
        with torch.no_grad():
            found.append(accuracy(learner(given.val[0]), given.val[1]))
        return found[-1]

    step, best, state = train_head(learner, scale, optimiser(args), batches, check, args["eval_freq"], seen)
    close(torch.tensor(found), spec["val_acc_per_evaluation"], absolute=1e-6, what="accuracy on validation images")
    assert step == spec["chosen"]["iter"]
    close(best, spec["chosen"]["val_acc"], absolute=1e-6)
    for key in numbers.names("chosen"):
        numbers.compare(state[key], f"chosen/{key}", relative=1e-4)
    learner.load_state_dict(state)
    with torch.no_grad():
        logits = scale * learner(given.test[0])
        mixed = scale * learner(given.test[0], 0.5 * learner.linear.weight + 0.5 * given.class_features)
    close(logits, numbers.data["logits_test"], absolute=1e-3, what="logits")
    close(mixed, numbers.data["logits_test_wiseft"], absolute=1e-3, what="logits of WiSE-FT")
    assert accuracy(mixed, given.test[1]) == pytest.approx(spec["test_accs"]["head_wiseft_0.5"])
