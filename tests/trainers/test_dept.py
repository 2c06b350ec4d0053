"""DePT: who decides on which classes, its options against a plain computation, checkpoints of its published code."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from prompting import unit

COOP, KGCOOP = "vit_b16_ep10_bs4_lr35", "vit_b16_ep10_ctxv1_bs4_lr35"
LINEAR_PROBE = "TRAINER.LINEAR_PROBE."


def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def published(trainer, folder, classes=5):
    """A file as the repository writes it, with random values: CLIP, what the method leaves unused, and what it learns."""
    rng = torch.Generator().manual_seed(3)
    shapes = {name: p.shape for name, p in trainer.learner.state_dict().items()}
    state = {
        f"prompt_learner.{name}" if name == "ctx" else name: torch.randn(shape, generator=rng) for name, shape in shapes.items()
    }
    for leaf, shape in (("weight", (classes, trainer.clip.embed_dim)), ("bias", (classes,))):
        state[f"linear_probe_proj.{leaf}"] = torch.randn(shape, generator=rng)
    unused = ["logit_scale", "image_encoder.proj", "text_encoder.ln_final.weight", "meta_net.linear1.bias", "adapter.fc.0.weight"]
    unused += [f"prompt_learner.{name}" for name in ("token_prefix", "bias_vectors", "meta_net.linear1.bias")]
    (folder / "PromptLearner").mkdir(parents=True)
    content = {"state_dict": {**state, **{name: torch.zeros(2) for name in unused}}, "epoch": 10}
    torch.save(content, folder / "PromptLearner" / "model.pth.tar-10")
    return state


def plain(trainer, x, kind="linear"):
    """Logits of the prompts and of the classifier, written out."""
    learner, text = trainer.learner, trainer.raw_text_features()
    image = trainer.clip.encode_image(x, raw=True)
    cosine = lambda a, b: trainer.clip.logit_scale * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).t()  # noqa: E731
    t, i = learner.film_lp_text(text), learner.film_lp_img(image)
    return cosine(image, text), cosine(i, t) if kind == "similarity" else learner.linear_probe_proj(i)


@pytest.mark.parametrize("method, stem", [("ExtrasLinearProbeCoOp", COOP), ("ExtrasLinearProbeKgCoOp", KGCOOP)])
@pytest.mark.parametrize("subset, fused", [("base", True), ("all", False), ("new", False)])
def test_a_published_checkpoint_decides_as_in_its_own_code(method, stem, subset, fused, make_trainer, tmp_path):
    options = ("DATASET.SUBSAMPLE_CLASSES", subset, "TRAINER.COOP.CTX_INIT", "a photo of a")
    trainer = make_trainer(method, stem, *options)
    classes = trainer.num_classes
    state = published(trainer, tmp_path / "published", classes if subset == "base" else 7)
    trainer.load_model(str(tmp_path / "published"), epoch=10)
    trainer.set_model_mode("eval")
    assert torch.equal(trainer.learner.ctx, state["prompt_learner.ctx"])
    with torch.no_grad():
        prompts, classifier = plain(trainer, images())
    expected = 0.3 * prompts + 0.7 * classifier if fused else prompts
    assert torch.allclose(trainer.model_inference(images()), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "similarity"])
@pytest.mark.parametrize("transforms", [True, False])
@pytest.mark.parametrize("fusion", [True, False])
def test_options(kind, transforms, fusion, make_trainer, tmp_path):
    options = (LINEAR_PROBE + "TYPE", kind, LINEAR_PROBE + "TEST_TIME_FUSION", fusion, "TRAINER.FILM.LINEAR_PROBE", transforms,
               LINEAR_PROBE + "WEIGHT", 0.4, "TRAINER.COOP.N_CTX", 4)  # fmt: skip
    trainer = make_trainer("ExtrasLinearProbeCoOp", COOP, *options)
    count = 1 + 4 * transforms + 2 * (kind == "linear")
    assert len(list(trainer.learner.parameters())) == count
    rates = [group["lr"] for group in trainer.optim.param_groups]
    assert rates == pytest.approx([1e-5, 1e-5][: 1 + (count > 1)])  # of the warm-up
    assert trainer.sched.base_lrs == pytest.approx([0.0035, 0.0035 * 6.5][: 1 + (count > 1)])
    trainer.train()
    trainer.set_model_mode("eval")
    with torch.no_grad():
        prompts, classifier = plain(trainer, images(), kind)
        expected = 0.6 * prompts + 0.4 * classifier if fusion else classifier
        assert torch.allclose(trainer.model_inference(images()), expected, atol=1e-4)
        features, labels = trainer.encode_image(images()), torch.tensor([1, 0, 1])
        text = trainer.raw_text_features()
        rows, targets = classifier, labels
        if kind == "linear":
            of_texts = trainer.learner.linear_probe_proj(trainer.learner.film_lp_text(text[labels]))
            rows, targets = torch.cat([of_texts, classifier]), labels.repeat(2)
        expected = 0.6 * F.cross_entropy(prompts, labels) + 0.4 * F.cross_entropy(rows, targets)
        assert trainer.loss(features, labels)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    again = make_trainer("ExtrasLinearProbeCoOp", COOP, *options, out="again")
    again.load_model(str(tmp_path / "run"), epoch=2)
    assert torch.equal(again.model_inference(images()), trainer.model_inference(images()))


def test_classes_that_the_classifier_does_not_know(make_trainer, tmp_path, capsys):
    make_trainer("ExtrasLinearProbeCoOp", COOP, "DATASET.SUBSAMPLE_CLASSES", "base", "TRAINER.COOP.N_CTX", 4).train()
    for subset, fused in (("new", False), ("all", False), ("base", True)):
        other = make_trainer(
            "ExtrasLinearProbeCoOp", COOP, "DATASET.SUBSAMPLE_CLASSES", subset, "TRAINER.COOP.N_CTX", 4, out=subset
        )
        capsys.readouterr()
        other.load_model(str(tmp_path / "run"), epoch=2)
        assert ("doesn't know these classes" in capsys.readouterr().out) is not fused
        with torch.no_grad():
            prompts, classifier = plain(other, images())
        expected = 0.3 * prompts + 0.7 * classifier if fused else prompts
        assert torch.allclose(other.model_inference(images()), expected, atol=1e-4)


def test_rows_of_a_part_of_the_classes_are_found_by_folder(make_trainer, tmp_path):
    """ImageNet-A and -R have some of ImageNet's classes, two of which may be called alike."""
    trainer = make_trainer("ExtrasLinearProbeCoOp", COOP, "TRAINER.COOP.N_CTX", 4)
    state = published(trainer, tmp_path / "published", 7)
    own = list(trainer.dm.dataset.classnames)
    every = [own[0], "missile", own[1], own[2], "missile", own[3], own[4]]
    rows = [0, 2, 4, 5, 6]
    names = [every[row] for row in rows]
    trainer.dm.dataset = SimpleNamespace(classnames=names, training_rows=lambda: (every, rows))
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NAME = "ImageNetA"
    trainer.cfg = cfg
    trainer.load_model(str(tmp_path / "published"), epoch=10)
    assert trainer.fused
    assert torch.equal(trainer.learner.linear_probe_proj.weight, state["linear_probe_proj.weight"][rows])
    assert torch.equal(trainer.learner.linear_probe_proj.bias, state["linear_probe_proj.bias"][rows])


def test_image_features_are_as_long_as_clip_gives_them(make_trainer):
    trainer = make_trainer("ExtrasLinearProbeCoOp", COOP)
    raw = trainer.clip.encode_image(images(), raw=True)
    assert torch.equal(trainer.encode_image(images()), raw) and torch.equal(trainer.encode_image(raw), raw)
    assert not torch.allclose(raw, unit(raw))


@pytest.mark.parametrize("precision", ["amp", "bf16"])
def test_precisions(precision, make_trainer):
    trainer = make_trainer("ExtrasLinearProbeKgCoOp", KGCOOP, "TRAINER.COOP.PREC", precision, "TRAINER.FILM.LINEAR_PROBE", False)
    trainer.train()
    trainer.set_model_mode("eval")
    assert trainer.model_inference(images()).dtype == torch.float32
