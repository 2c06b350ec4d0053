"""MoCoOp's deep prompts, meta-net and self-regularisation: against plain loops in fp64, through whole runs, refusals."""

import math
from unittest import mock

import pytest
import torch

from basics import UserError
from dassl.utils import load_checkpoint
from inference import Predictor
from inference.distil import distil
from prompting import soft_parts
from prompting.reference import encode_reference
from tests.golden.tiny_clip import state_dict
from tests.parallel.job import load_in_fp64
from tests.trainers.test_trainers import interrupted, learned
from trainers.mocoop import conditional

O = "TRAINER.MOCOOP."  # noqa: E741
LABELS = [0, 2, 1, 0]
TEXT = (O + "PROMPT_DEPTH_TEXT", 2)
VISION = (O + "PROMPT_DEPTH_VISION", 2, O + "N_CTX_VISION", 3)
META = (O + "META_NET", True)
SELF = (O + "SELF_REGULARISATION", True)
ALL = (*TEXT, *VISION, *META, *SELF)
CASES = {
    "text": TEXT,
    "vision": VISION,
    "meta-net": META,
    "self-regularisation": SELF,
    "all": ALL,
    "all, CLIP's temperature, no text loss": (*ALL, O + "TAU", 0.0, O + "TEXT_LOSS", "none"),
    "all, mixture at its own length, no full stop, correction": (
        *ALL, O + "RENORMALISE", False, O + "FULL_STOP", False, O + "CORRECTION", True
    ),
    "no meta-net, no full stop": (*TEXT, *VISION, *SELF, O + "FULL_STOP", False),
    "one expert, no text loss": (*TEXT, *META, O + "TOP_K", 1, O + "TEXT_LOSS", "none"),
    "experts in turn": (*TEXT, *META, O + "TEXT_EXPERTS", 1),
    "experts in turn, no meta-net": (*TEXT, O + "TEXT_EXPERTS", 1, O + "TOP_K", 1),
    "chosen experts": (*TEXT, *VISION, *META, O + "CHOSEN_BELOW", 9, O + "TOP_K", 1),
}  # fmt: skip


@pytest.fixture
def three(tmp_path):
    """A file of three groups; the words of the first expert stand behind the class name."""
    file = tmp_path / "three.txt"
    file.write_text("{} texture.\na {} of sorts.\n\na photo of a {}.\nitap of a {}.\n\na big {}.\n")
    return str(file)


@pytest.fixture
def in_fp64(make_trainer, three):
    """Function KEY VALUE … -> MoCoOp of three experts in fp64, on base classes: three of five."""

    def make(*pairs):
        with mock.patch("learning.building.load_clip", load_in_fp64):
            base = (O + "TEMPLATES", three, "DATASET.SUBSAMPLE_CLASSES", "base")
            trainer = make_trainer("MoCoOp", "vit_b16", *base, *pairs)
        trainer.learner.double()
        with torch.no_grad():  # an expert of one template starts at its teacher, where |t - t0| has no gradient
            trainer.learner.ctx.add_(0.01 * torch.randn_like(trainer.learner.ctx))
        if trainer.learner.correction is not None:
            torch.nn.init.normal_(trainer.learner.correction)
        trainer.epoch, trainer.num_batches, trainer.batch_idx = 0, 5, 0
        return trainer

    return make


def unit(x):
    return x / x.square().sum().sqrt()


def plain_text(trainer, g, name, shift, stop):
    """Unit feature [E] of one prompt: all 77 positions, the model's own blocks, rows replaced one by one."""
    tower, tokenizer, learner = trainer.clip.text, trainer.clip.tokenizer, trainer.learner
    before, after, full_stop = soft_parts(trainer.groups[g].templates[0], tokenizer)
    words = tokenizer.encode(name.replace("_", " "))
    ids = [*tokenizer.start, *before, *words, *after, *(full_stop if stop else []), *tokenizer.end]
    first = 1 + len(before) + len(words)
    places = [*range(1, 1 + len(before)), *range(first, first + len(after))]
    start = sum(sum(map(len, soft_parts(group.templates[0], tokenizer)[:2])) for group in trainer.groups[:g])
    rows = list(tower.token_embedding(torch.tensor(ids + [0] * (tower.context_length - len(ids)))))
    for number, place in enumerate(places):
        rows[place] = learner.ctx[start + number] + shift
    x = torch.stack(rows) + tower.positional_embedding
    mask = torch.full((len(x), len(x)), -math.inf, dtype=x.dtype).triu(1)
    for i, block in enumerate(tower.blocks):
        if 1 <= i < trainer.options.PROMPT_DEPTH_TEXT:
            rows = list(x)
            for number, place in enumerate(places):
                rows[place] = learner.text_prompts[i - 1][start + number]
            x = torch.stack(rows)
        x = block(x[None], attn_mask=mask)[0]
    raw = tower.ln_final(x)[len(ids) - 1] @ tower.text_projection
    return unit(raw if learner.correction is None else raw + learner.correction[0])


def plain_image(trainer, image, prompts):
    """Unit feature [E] of one image, with rows behind its patches."""
    visual = trainer.clip.visual
    x = visual._embeds(image[None])
    own = x.shape[1]
    for i, block in enumerate(visual.transformer.resblocks):
        if i < len(prompts):
            x = torch.cat([x[:, :own], (visual.ln_pre(prompts[0]) if i == 0 else prompts[i])[None]], dim=1)
        x = block(x)
    return unit(visual.ln_post(x[0, 0]) @ visual.proj)


def plain_logits(trainer, features):
    """Logits, and numbers of the chosen experts, of unit features: image by image, expert by expert, class by class."""
    o, learner, names = trainer.options, trainer.learner, trainer.dm.dataset.classnames
    logits, all_chosen = [], set()
    scale = 1 / o.TAU if o.TAU else trainer.clip.logit_scale
    for v in features:
        scores = [learner.router.weight[g] @ v + learner.router.bias[g] for g in range(len(trainer.groups))]
        chosen = sorted(range(len(scores)), key=lambda g: -float(scores[g]))[: o.TOP_K]
        all_chosen.update(chosen)
        total = sum(scores[g].exp() for g in chosen)
        shift = torch.zeros(())
        if o.META_NET:
            net = learner.meta_net
            shift = net.linear2.weight @ (net.linear1.weight @ v + net.linear1.bias).clamp(min=0) + net.linear2.bias
        row = []
        for name in names:
            mixed = sum(scores[g].exp() / total * plain_text(trainer, g, name, shift, o.FULL_STOP) for g in chosen)
            row.append(scale * (v @ (unit(mixed) if o.RENORMALISE else mixed)))
        logits.append(torch.stack(row))
    return torch.stack(logits), all_chosen


def plain_loss(trainer, images):
    """The whole loss of a batch."""
    o, learner, targets = trainer.options, trainer.learner, trainer.training_targets()
    features = [plain_image(trainer, image, list(learner.image_prompts)) for image in images]
    frozen = [plain_image(trainer, image, []) for image in images]
    logits, chosen = plain_logits(trainer, features)
    B, C, G = len(features), logits.shape[1], len(trainer.groups)
    loss = -sum(logits[b].log_softmax(0)[LABELS[b]] for b in range(B)) / B
    for v in features:
        router = torch.stack([learner.router.weight[g] @ v + learner.router.bias[g] for g in range(G)]).softmax(0)
        target = torch.stack([v.detach() @ targets.means[g] for g in range(G)]).softmax(0)
        loss = loss + o.LAMBDA_ROUTER * sum(router[g] * (router[g] / target[g]).log() for g in range(G)) / B
    every, seen = trainer.dm.dataset.all_classnames, trainer.dm.dataset.classnames
    text = [[plain_text(trainer, g, name, 0, True) for name in every] for g in range(G)]
    if o.TEXT_LOSS != "none":
        turn = trainer.experts_in_turn() if o.TEXT_EXPERTS else range(G)
        of_text = 0
        for g in turn:
            for c in range(len(every)):
                soft = text[g][c] if g in chosen or not o.CHOSEN_BELOW else torch.zeros_like(text[g][c])
                shares = [(hard @ soft / (o.TAU or 1)).softmax(0)[c] for hard in targets.hard[g]]
                of_text = of_text - (sum(shares) / len(shares)).log()
        loss = loss + o.LAMBDA_TEXT * of_text / len(turn) / len(every)
    if o.SELF_REGULARISATION:
        teacher = [[unit(targets.hard[g][:, every.index(name)].mean(0)) for name in seen] for g in range(G)]
        away = sum((text[g][every.index(name)] - teacher[g][c]).abs().mean() for g in range(G) for c, name in enumerate(seen))
        loss = loss + 25 * away / G / C
        loss = loss + 10 * sum((v - v0).abs().mean() for v, v0 in zip(features, frozen)) / B
        scale = 1 / o.TAU if o.TAU else trainer.clip.logit_scale
        for b in range(B):
            zero_shot = torch.stack([scale * frozen[b] @ unit(sum(teacher[g][c] for g in range(G)) / G) for c in range(C)])
            p0, p = zero_shot.log_softmax(0), logits[b].log_softmax(0)
            loss = loss + (p0.exp() * (p0 - p)).sum() / C / B
    return loss, logits


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_plain_loops(case, in_fp64):
    trainer = in_fp64(*CASES[case])
    torch.manual_seed(3)
    images, parameters = torch.randn(4, 3, 32, 32), dict(trainer.learner.named_parameters())
    trainer.set_model_mode("train")
    loss, logits, _ = trainer.loss(trainer.batch_features(images), torch.tensor(LABELS))
    expected_loss, expected = plain_loss(trainer, images)
    assert torch.allclose(logits, expected, rtol=1e-12, atol=1e-11)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-12)
    ours = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True, allow_unused=True)
    plain = torch.autograd.grad(expected_loss, list(parameters.values()), materialize_grads=True, allow_unused=True)
    for name, a, b in zip(parameters, ours, plain):
        assert b.abs().max() > 0, f"{name} has no gradient"
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12 * max(1.0, float(b.abs().max()))), name
    trainer.set_model_mode("eval")
    assert torch.allclose(trainer.model_inference(images), expected, rtol=1e-12, atol=1e-11)


def test_a_plan_of_some_experts_takes_their_deep_rows(in_fp64):
    trainer = in_fp64(*TEXT)
    whole = trainer.text_features()
    for g in range(3):
        assert torch.allclose(trainer.expert_features(trainer.part_of(trainer.class_plan, (g,)))[0], whole[g], atol=1e-13)


@pytest.mark.parametrize("count", ["tokens", "words"])
def test_packed_prompts_of_images_are_those_of_the_reference(count, in_fp64, monkeypatch):
    """With a vector for each word one stands in the place of the end token, and is read there."""
    trainer = in_fp64(*TEXT, *META, O + "CONTEXT_COUNT", count)
    v = torch.nn.functional.normalize(torch.randn(5, trainer.clip.embed_dim, dtype=torch.float64), dim=-1)
    chosen = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 1], [1, 0]])
    ours, tower = trainer.conditional_features(v, chosen), trainer.clip.text
    plain = lambda plan, learned, checkpointing, insertions: encode_reference(tower, plan, learned, insertions)  # noqa: E731
    monkeypatch.setattr(tower, "forward", plain)
    assert torch.allclose(trainer.conditional_features(v, chosen), ours, atol=1e-12)


def test_images_are_evaluated_in_parts(in_fp64, monkeypatch):
    trainer, images = in_fp64(*ALL), torch.randn(7, 3, 32, 32)
    trainer.set_model_mode("eval")
    whole, passes = trainer.model_inference(images), []
    features = trainer.conditional_features
    monkeypatch.setattr(trainer, "conditional_features", lambda f, c: passes.append(len(f)) or features(f, c))
    monkeypatch.setattr(conditional, "TOKENS_AT_ONCE", 1)
    assert torch.allclose(trainer.model_inference(images), whole, atol=1e-12) and passes == [1] * 7


def test_images_that_chose_an_expert_share_its_passes(in_fp64):
    """Of powers of two, so that the plans that are kept stay few."""
    trainer, encoded = in_fp64(*META, O + "TOP_K", 1), []
    encode = trainer.encode
    trainer.encode = lambda plan, *args, **more: encoded.append(plan.num_groups) or encode(plan, *args, **more)
    v = torch.nn.functional.normalize(torch.randn(7, trainer.clip.embed_dim, dtype=torch.float64), dim=-1)
    trainer.conditional_features(v, torch.tensor([[0], [2], [0], [0], [2], [2], [0]]))
    assert encoded == [4, 2, 1]
    assert conditional.powers_of_two(13) == [8, 4, 1] and conditional.powers_of_two(1) == [1]


def test_the_plain_learner_is_as_it_was(make_trainer):
    trainer = make_trainer("MoCoOp", "vit_b16")
    assert set(trainer.learner.state_dict()) == {"ctx", "router.weight", "router.bias"}
    assert trainer.image_learning.takes_features and trainer.epochs_only_in_schedule


def test_a_run_with_all_switches(make_trainer, three, tmp_path, capsys):
    """It lowers its loss; interrupted, it ends with the same bits; other classes and images are predicted with it."""
    few = (O + "TEMPLATES", three, "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.LR", 0.05, "OPTIM.WARMUP_EPOCH", -1)
    options = (*few, *ALL, O + "GPA_MEAN", 4, "TRAINER.CACHE_VIEWS", True, "OPTIM.MAX_EPOCH", 4, "TRAIN.CHECKPOINT_FREQ", 1)
    make = lambda out, *more: make_trainer("MoCoOp", "vit_b16", *options, *more, out=out)  # noqa: E731
    whole, half, losses, epochs = make("whole"), make("half"), [], []
    step, after_epoch = whole.forward_backward, whole.after_epoch
    whole.forward_backward = lambda batch: losses.append(step(batch)["loss"]) or {"loss": losses[-1]}
    whole.after_epoch = lambda: epochs.append(learned(whole)) or after_epoch()
    whole.train()
    each = len(losses) // 4
    assert sum(losses[-each:]) < 0.9 * sum(losses[:each])
    said = capsys.readouterr().out
    assert "Image features are not cached: MoCoOp learns prompts of the image encoder" in said
    assert "the mean over 4 epochs; epoch 4 has the largest share, 57% (TRAINER.MOCOOP.GPA_MEAN, GPA_STD)" in said
    weights = [math.exp(-((e - 4) ** 2) / 2) for e in (1, 2, 3, 4)]
    for name, value in learned(whole).items():
        mean = sum(w * epoch[name] for w, epoch in zip(weights, epochs)) / sum(weights)
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-6)
    assert not torch.equal(learned(whole)["ctx"], epochs[-1]["ctx"])
    interrupted(half, 2)
    again = make("half")
    again.train()
    straight, resumed = learned(whole), learned(again)
    assert again.start_epoch == 2 and all(torch.equal(straight[name], resumed[name]) for name in straight)
    saved = load_checkpoint(str(tmp_path / "half" / "prompt_learner" / "model.pth.tar-4"))["state_dict"]
    assert saved.keys() == straight.keys() and {"text_prompts.0", "image_prompts.1", "meta_net.linear2.bias"} <= saved.keys()
    new = make_trainer("MoCoOp", "vit_b16", *options[:2], *options[4:], "DATASET.SUBSAMPLE_CLASSES", "new", out="new")
    new.evaluate(str(tmp_path / "whole"), 4)
    images = torch.randn(3, 3, 32, 32)
    assert new.model_inference(images).shape == (3, 2)
    assert all(torch.equal(value, straight[name]) for name, value in learned(new).items())
    predictor = Predictor(tmp_path / "half")
    said = predictor([whole.dm.dataset.test[0].impath])[0]
    assert sum(e["chosen"] for e in said["experts"]) == 2 and sum(e["weight"] for e in said["experts"]) == pytest.approx(1)
    with pytest.raises(UserError, match="learned prompts of the image encoder .*PROMPT_DEPTH_VISION"):
        distil(str(tmp_path / "half"), tmp_path / "matrix")
    with pytest.raises(UserError, match="MoCoOp learns prompts of the image encoder"):
        predictor.trainer.exported_head()
    plain = make_trainer("MoCoOp", "vit_b16", *few, *TEXT, *VISION, "OPTIM.MAX_EPOCH", 4, out="plain")
    with pytest.raises(UserError, match="trained with TRAINER.MOCOOP.META_NET True .now False."):
        plain.load_model(str(tmp_path / "whole"), epoch=4)


def test_a_meta_net_on_kept_features(make_trainer, three, tmp_path, capsys):
    """Nothing is learned in the image encoder, so its features are kept; a matrix and an export don't exist."""
    options = (O + "TEMPLATES", three, *META, *TEXT, *SELF, O + "GPA_MEAN", 1, "OPTIM.MAX_EPOCH", 1)
    pixels = make_trainer("MoCoOp", "vit_b16", *options, "TRAINER.FEATURE_CACHE", "", out="pixels")
    kept = make_trainer("MoCoOp", "vit_b16", *options, "TRAINER.CACHE_VIEWS", True, out="kept")
    pixels.train(), kept.train()
    assert "Image features of training views" in capsys.readouterr().out
    assert all(torch.equal(value, learned(kept)[name]) for name, value in learned(pixels).items())
    with pytest.raises(UserError, match="META_NET"):
        distil(str(tmp_path / "kept"), tmp_path / "matrix")
    with pytest.raises(UserError, match="META_NET"):
        kept.exported_head()
    with pytest.raises(NotImplementedError):
        kept.text_features()


@pytest.mark.parametrize("precision", ["amp", "bf16"])
def test_precisions(precision, make_trainer, three):
    trainer = make_trainer("MoCoOp", "vit_b16", O + "TEMPLATES", three, *ALL, O + "PREC", precision)
    exact = make_trainer("MoCoOp", "vit_b16", O + "TEMPLATES", three, *ALL, O + "PREC", "fp32", out="exact")
    images = torch.randn(4, 3, 32, 32)
    for each in (trainer, exact):
        each.set_model_mode("eval")
    ours, expected = trainer.model_inference(images), exact.model_inference(images)
    assert ours.dtype == torch.float32 and not torch.equal(ours, expected)
    assert (ours - expected).abs().max() < {"bf16": 0.5, "amp": 0.1}[precision]  # of cosines over 0.07
    trainer.train()
    assert all(torch.isfinite(value).all() for value in learned(trainer).values())


def test_experts_without_a_choice_stay_as_they_are(make_trainer, three):
    """CHOSEN_BELOW: neither weight decay nor momentum moves rows of experts that no image chose, in any layer."""
    pairs = (O + "TEMPLATES", three, *TEXT, O + "TOP_K", 1, O + "CHOSEN_BELOW", 9, "OPTIM.WARMUP_EPOCH", -1)
    trainer = make_trainer("MoCoOp", "vit_b16", *pairs)
    with torch.no_grad():
        trainer.learner.router.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    before = learned(trainer)
    trainer.batch_idx, trainer.num_batches = 0, 10
    trainer.forward_backward({"img": torch.randn(4, 3, 32, 32), "label": torch.tensor(LABELS)})
    after, (first, second, _) = learned(trainer), trainer.ctx_lengths
    for name in ("ctx", "text_prompts.0"):
        moved = (after[name] != before[name]).any(dim=1)
        assert moved.tolist() == [first <= i < first + second for i in range(len(moved))]


@pytest.mark.parametrize("pairs, named", [
    ((O + "PROMPT_DEPTH_TEXT", 3), "PROMPT_DEPTH_TEXT 3: the text tower has 2 layers"),
    ((O + "PROMPT_DEPTH_VISION", 3), "PROMPT_DEPTH_VISION 3: the image encoder has 2 layers"),
    ((O + "N_CTX_VISION", 2), "N_CTX_VISION 2 has no effect with .*PROMPT_DEPTH_VISION 0"),
    ((*SELF, O + "SELF_IMAGE_WEIGHT", 2.0), "SELF_IMAGE_WEIGHT 2.0 has no effect with .*PROMPT_DEPTH_VISION 0"),
    ((O + "GPA_STD", 2.0), "GPA_STD 2.0 has no effect with .*SELF_REGULARISATION False"),
    ((*SELF, O + "TUNE_LAYERNORM", True), "SELF_REGULARISATION True with TRAINER.MOCOOP.TUNE_LAYERNORM True"),
    ((*SELF, O + "TEXT_EXPERTS", 1), "SELF_REGULARISATION True with TRAINER.MOCOOP.TEXT_EXPERTS 1"),
    ((*SELF, O + "CHOSEN_BELOW", 9), "SELF_REGULARISATION True with TRAINER.MOCOOP.CHOSEN_BELOW 9"),
    ((*SELF, "DATASET.MULTI_LABEL", True), "SELF_REGULARISATION True: with DATASET.MULTI_LABEL"),
    ((*VISION, O + "ROUTER_CENTRE", True), "ROUTER_CENTRE True with TRAINER.MOCOOP.PROMPT_DEPTH_VISION 2"),
])  # fmt: skip
def test_refusals(pairs, named, make_trainer):
    with pytest.raises(UserError, match=named):
        make_trainer("MoCoOp", "vit_b16", *pairs)


def test_a_resnet_takes_no_image_prompts(make_trainer, tmp_path):
    torch.save(state_dict("tiny_clip_rn"), tmp_path / "rn.pt")
    resnet = ("MODEL.BACKBONE.NAME", "RN50", "MODEL.BACKBONE.PATH", str(tmp_path / "rn.pt"), "INPUT.SIZE", (64, 64))
    with pytest.raises(UserError, match="PROMPT_DEPTH_VISION 2: RN50's image encoder has no transformer blocks"):
        make_trainer("MoCoOp", "vit_b16", *resnet, *VISION)
    make_trainer("MoCoOp", "vit_b16", *resnet, *TEXT, *META, *SELF, "OPTIM.MAX_EPOCH", 1).train()


def test_an_expert_without_words(make_trainer, tmp_path):
    file = tmp_path / "bare.txt"
    file.write_text("# bare\n{}.\n\na photo of a {}.\n")
    with pytest.raises(UserError, match='PROMPT_DEPTH_TEXT 2: expert "bare" has no words beside the class name'):
        make_trainer("MoCoOp", "vit_b16", O + "TEMPLATES", str(file), *TEXT)
    make_trainer("MoCoOp", "vit_b16", O + "TEMPLATES", str(file), *META).train()
