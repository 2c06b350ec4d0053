"""Every method in the registry trains, saves, loads and evaluates; MoCoOp's switches all do something."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, load_checkpoint
from prompting.classnames import check_classnames, remarks_on_names
from tests.trainers.conftest import CLASSES, PROJECT

METHODS = {
    "ZeroshotCLIP": "vit_b16", "ZeroshotCLIP2": "vit_b16", "LinearProbe": "vit_b16", "CoOp": "vit_b16_ctxv1",
    "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1", "KgCoOp": "vit_b16_ep100_ctxv1", "ProGrad": "vit_b16_ep100",
    "MoCoOp": "vit_b16", "VPT": "vit_b16_c2_ep5_batch4_4", "IVLP": "vit_b16_c2_ep5_batch4_2+2ctx",
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx", "PromptSRC": "vit_b16_c2_ep20_batch4_4+4ctx",
    "MultiModalAdapter": "vit_b16_ep5", "MMRL": "vit_b16", "TCP": "vit_b16_ep100_ctxv1",
    "CLIPLoRA": "vit_b16", "TwoSFS": "vit_b16", "ExtrasLinearProbeCoOp": "vit_b16_ep10_bs4_lr35",
    "ExtrasLinearProbeKgCoOp": "vit_b16_ep10_ctxv1_bs4_lr35", "TipAdapter": "vit_b16", "TipAdapterF": "vit_b16",
    "LinearProbe_P2": "vit_b16", "TaskRes": "adam_lr2e-3_B256_ep100", "CLIP_Adapter": "rn50",
    "ADAPTER": "SGD_lr1e-1_B256_ep300", "CrossModal": "rn50_linear", "CoOp_ATP": "vit_b16",
}  # fmt: skip
PUBLISHED = Path(__file__).parents[1] / "golden" / "published"


def interrupted(trainer, epoch):
    """Train until this epoch, counted from 0, is about to begin: there Ctrl-C ends it."""
    before_epoch = trainer.before_epoch

    def stop():
        if trainer.epoch == epoch:
            raise KeyboardInterrupt
        before_epoch()

    trainer.before_epoch = stop
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


def learned(trainer):
    return {k: v.clone() for k, v in trainer.learner.state_dict().items()} if trainer.learner is not None else {}


def test_all_methods_are_covered():
    assert set(METHODS) <= set(TRAINER_REGISTRY.registered_names())


@pytest.mark.parametrize("method", METHODS)
def test_train_save_load(method, make_trainer, tmp_path):
    trainer = make_trainer(method, METHODS[method])
    before = learned(trainer)
    trainer.train()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["status"] == "finished" and results["trainer"] == method and results["metrics"]["total"] == 10
    after = learned(trainer)
    if before:
        assert all(torch.isfinite(v).all() for v in after.values())
        assert any(not torch.equal(before[k], after[k]) for k in after), "nothing was learned"
        file = tmp_path / "run" / trainer.model_name / "model.pth.tar-2"
        saved = load_checkpoint(str(file))["state_dict"]
        assert set(saved) == set(after), "checkpoints hold what is learned, nothing else"
    if method == "MoCoOp":
        assert results["router"]["images"] == 10 and 0 < results["router"]["training"]["target"] <= 1
        assert sum(e["chosen"] for e in results["router"]["experts"]) == pytest.approx(2)
    again = make_trainer(method, METHODS[method], out="again")
    again.load_model(str(tmp_path / "run"), epoch=2)
    again.test()
    evaluated = json.loads((tmp_path / "again" / "results.json").read_text())
    assert evaluated["eval_only"] and evaluated["metrics"]["accuracy"] == results["metrics"]["accuracy"]
    x = torch.randn(3, 3, 32, 32)
    assert torch.equal(trainer.model_inference(x), again.model_inference(x))


@pytest.mark.parametrize("method", ["CoOp", "MoCoOp"])
def test_what_is_learned_depends_on_the_seed_alone(method, make_trainer):
    runs = []
    for out, disturbance in (("a", 0), ("b", 7)):
        trainer = make_trainer(method, METHODS[method], "OPTIM.MAX_EPOCH", 1, out=out)
        torch.rand(disturbance)
        trainer.train()
        runs.append(learned(trainer))
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in runs[0])


def test_published_coop_checkpoint_is_evaluated(make_trainer, tmp_path):
    """Written by CoOp on Dassl, with a pickled scheduler object in it."""
    folder = tmp_path / "published" / "prompt_learner"
    folder.mkdir(parents=True)
    shutil.copy(PUBLISHED / "coop_base_seed1_model.pth.tar-10", folder / "model.pth.tar-10")
    trainer = make_trainer("CoOp", "vit_b16_ctxv1")
    trainer.load_model(str(tmp_path / "published"), epoch=10)
    expected = load_checkpoint(str(folder / "model.pth.tar-10"))["state_dict"]["ctx"]
    assert torch.equal(trainer.learner.ctx.detach(), expected)
    trainer.test()


def test_class_specific_contexts_refuse_other_classes(make_trainer, tmp_path, capsys):
    options = ("TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.CSC", True, "TRAINER.COOP.N_CTX", 2)
    make_trainer("CoOp", "vit_b16_ctxv1", *options, "DATASET.SUBSAMPLE_CLASSES", "base").train()
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-2"
    new = make_trainer("CoOp", "vit_b16_ctxv1", *options, "DATASET.SUBSAMPLE_CLASSES", "new", out="new")
    with pytest.raises(UserError, match="belongs to its own classes"):
        new.load_model(str(tmp_path / "run"), epoch=2)
    with pytest.raises(UserError, match="belongs to its own classes"):
        make_trainer("CoOp", "vit_b16_ctxv1", *options, "DATASET.SUBSAMPLE_CLASSES", "new", "MODEL.INIT_WEIGHTS", str(path))
    # a published checkpoint says no classes; where their number fits, a line says that nothing else is known
    torch.save({k: v for k, v in torch.load(path).items() if k != "classnames"}, path)
    same = make_trainer("CoOp", "vit_b16_ctxv1", *options, "DATASET.SUBSAMPLE_CLASSES", "base", out="same")
    capsys.readouterr()
    same.load_model(str(tmp_path / "run"), epoch=2)
    assert "doesn't say which classes" in capsys.readouterr().out


def test_settings_that_a_prompt_belongs_to(make_trainer, tmp_path):
    make_trainer("CoOp", "vit_b16_ctxv1").train()
    other = make_trainer("CoOp", "vit_b16_ctxv1", "TRAINER.COOP.CLASS_TOKEN_POSITION", "front", out="other")
    with pytest.raises(UserError, match="trained with TRAINER.COOP.CLASS_TOKEN_POSITION end .now front."):
        other.load_model(str(tmp_path / "run"), epoch=2)


@pytest.mark.parametrize("names, words", [
    (("red_kite", "Red kite"), 'the classes "Red kite" and "red_kite" have the same tokens'),
    (("cat", "CAT"), 'the classes "CAT" and "cat" have the same tokens'),
    (("_", "cat"), 'the class name "_" has no words'),
])  # fmt: skip
def test_classes_that_the_text_tower_cannot_tell_apart(names, words, make_trainer, tmp_path):
    for part in ("train", "test"):
        for name in names:
            (tmp_path / "data" / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / "data" / part / name / "a.png")
    pairs = ("DATASET.ROOT", str(tmp_path), "DATASET.FOLDER", "data")
    with pytest.raises(UserError) as error:
        make_trainer("CoOp", "vit_b16_ctxv1", *pairs)
    assert words in str(error.value)
    make_trainer("LinearProbe", "vit_b16", *pairs)  # names no classes


def test_names_that_are_no_words(capsys):
    assert remarks_on_names(["cat", "n01440764", "12"]) == [
        'Note: 1 of 3 class names are WordNet ids, first "n01440764"; prompts need names in words',
        'Note: 1 of 3 class names are numbers, first "12"; prompts need names in words',
    ]
    check_classnames(["missile", "missile"], published=True)
    assert "WARNING" in capsys.readouterr().out


@pytest.mark.parametrize("pairs, words", [
    (("DATALOADER.K_TRANSFORMS", 2), "one transformed view"),
    (("INPUT.NO_TRANSFORM", True), "one transformed view"),
    (("INPUT.TRANSFORMS", ("random_flip",)), "lacks \"normalize\""),
    (("TRAINER.COOP.CSC", True), "one context that all classes share"),
    (("TRAINER.COOP.CTX_INIT", "True"), "give the words themselves"),
    (("TEST.EVALUATOR", "Classificatoin"), "unknown evaluator"),
])  # fmt: skip
def test_settings_that_a_method_cannot_work_with(pairs, words, make_trainer):
    with pytest.raises(UserError) as error:
        make_trainer("CoOp", "vit_b16_ctxv1", *pairs)
    assert words in str(error.value)


def test_own_start_of_a_method(make_trainer):
    with pytest.raises(UserError, match="this method starts from a photo of a, as published"):
        make_trainer("KgCoOp", "vit_b16_ep100_ctxv1", "TRAINER.COOP.CTX_INIT", "itap of a")


def test_mocoop_evaluates_the_checkpoints_own_groups(make_trainer, tmp_path):
    """Trained with three experts on the base classes; evaluated on the new ones, where the file has other groups."""
    file = tmp_path / "three.txt"
    file.write_text("{} texture.\n\na photo of a {}.\n\nitap of a {}.\n")
    trained = make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEMPLATES", str(file), "DATASET.SUBSAMPLE_CLASSES", "base")
    trained.train()
    file.unlink()
    new = make_trainer("MoCoOp", "vit_b16", "DATASET.SUBSAMPLE_CLASSES", "new", out="new")
    assert len(new.groups) != 3
    new.load_model(str(tmp_path / "run"), epoch=2)
    assert new.groups == trained.groups and new.num_classes == 2
    assert all(torch.equal(v, learned(trained)[k]) for k, v in learned(new).items())
    assert new.model_inference(torch.randn(2, 3, 32, 32)).shape == (2, 2)


def test_checkpoint_of_another_method(make_trainer, tmp_path):
    make_trainer("CoOp", "vit_b16_ctxv1").train()
    with pytest.raises(UserError, match="CoOp"):
        make_trainer("KgCoOp", "vit_b16_ep100_ctxv1", out="kg").load_model(str(tmp_path / "run"), epoch=2)


SWITCHES = [
    ("ROUTER_LOSS", "mse"), ("ROUTER_LOSS", "ce"), ("ROUTER_LOSS", "none"), ("ROUTER_TARGET", "true_class"),
    ("TEXT_LOSS", "prototype"), ("TEXT_LOSS", "none"), ("TEXT_CLASSES", "seen"), ("TOP_K", 1), ("TOP_K", 4), ("TAU", 0.0),
    ("RENORMALISE", False), ("TUNE_LAYERNORM", True), ("CORRECTION", True), ("FULL_STOP", False), ("LAMBDA_ROUTER", 3.0),
    ("LAMBDA_TEXT", 1.0), ("GROUPING", "random"), ("CONTEXT_COUNT", "words"), ("CHOSEN_BELOW", 5),
]  # fmt: skip


def step(trainer):
    """One training step on fixed images; the loss and what was learned."""
    torch.manual_seed(3)
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 2, 1, 0])}
    trainer.batch_idx, trainer.num_batches = 0, 10
    summary = trainer.forward_backward(batch)
    return summary["loss"], learned(trainer)


def test_every_switch_of_mocoop_changes_the_computation(make_trainer):
    templates = str(PROJECT / "templates" / "stanford_cars.txt")  # one of them has fewer words than tokens
    base = ("DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.WARMUP_EPOCH", -1, "TRAINER.MOCOOP.TEMPLATES", templates)
    loss, weights = step(make_trainer("MoCoOp", "vit_b16", *base))
    for key, value in SWITCHES:
        other_loss, other = step(make_trainer("MoCoOp", "vit_b16", *base, f"TRAINER.MOCOOP.{key}", value))
        same = other_loss == loss and weights.keys() == other.keys() and all(torch.equal(weights[k], other[k]) for k in weights)
        assert not same, f"{key} {value} changes nothing"


@pytest.mark.parametrize("method, key, value", [
    ("MoCoOp", "TRAINER.MOCOOP.ROUTER_LOSS", "kld"), ("MoCoOp", "TRAINER.MOCOOP.TOP_K", 99),
    ("MoCoOp", "TRAINER.MOCOOP.TEMPLATES", "nowhere.txt"), ("CoOp", "TRAINER.COOP.PREC", "fp8"),
    ("CoOp", "TRAINER.COOP.CLASS_TOKEN_POSITION", "back"), ("CoOp", "TRAINER.COOP.TAU", -0.1), ("CoOp", "INPUT.SIZE", (64, 64)),
    ("ProGrad", "TRAINER.COOP.N_CTX", 2), ("ProGrad", "LOSS.NAME", "progrod"), ("KgCoOp", "MODEL.BACKBONE.NAME", "ViT-B/61"),
])  # fmt: skip
def test_wrong_values_are_one_line(method, key, value, make_trainer):
    pairs = (key, value) if key != "MODEL.BACKBONE.NAME" else (key, value, "MODEL.BACKBONE.PATH", "")
    with pytest.raises(UserError) as error:
        make_trainer(method, METHODS[method], *pairs)
    assert "\n" not in str(error.value) and str(value)[:6] in str(error.value)


def test_a_random_grouping_says_where_the_own_template_went(make_trainer, capsys):
    for seed in range(8):
        trainer = make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.GROUPING", "random", "TRAINER.MOCOOP.GROUPING_SEED", seed,
                               out=f"run{seed}")  # fmt: skip
        starts = "a photo of a {}." in [g.templates[0] for g in trainer.groups]
        assert starts != ('no expert starts from the data set\'s own template "a photo of a {}."' in capsys.readouterr().out)


def test_mocoop_of_one_expert_is_coop(make_trainer, tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("a photo of a {}.\n")
    o = "TRAINER.MOCOOP."
    alone = (o + "TEMPLATES", str(file), o + "TOP_K", 1, o + "TAU", 0.0, o + "ROUTER_LOSS", "none", o + "TEXT_LOSS", "none")
    same = ("OPTIM.WARMUP_EPOCH", -1, "OPTIM.LR", 0.02)
    mocoop, coop = make_trainer("MoCoOp", "vit_b16", *alone, *same), make_trainer("CoOp", "vit_b16_ctxv1", *same, out="coop")
    for _ in range(3):
        (loss, weights), (expected, ctx) = step(mocoop), step(coop)
        assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(weights["ctx"], ctx["ctx"], rtol=1e-5, atol=1e-6)


def test_coop_at_another_temperature(make_trainer):
    plain, warm = (make_trainer("CoOp", "vit_b16_ctxv1", "TRAINER.COOP.TAU", tau, out=str(tau)) for tau in (0.0, 0.07))
    images = torch.randn(2, 3, 32, 32)
    scale = plain.clip.logit_scale
    torch.testing.assert_close(warm.model_inference(images), plain.model_inference(images) / scale / 0.07)


@pytest.mark.parametrize("router_loss", ["none", "kl"])
def test_experts_that_no_image_chose_may_be_left_out_where_the_text_loss_is_off(make_trainer, router_loss):
    """Bit for bit the same loss would be luck (other matrix sizes); a difference of more than rounding would be an error."""
    found = []
    for leave_out in (True, False):
        trainer = make_trainer("MoCoOp", "vit_b16", "TRAINER.MOCOOP.TEXT_LOSS", "none", "TRAINER.MOCOOP.ROUTER_LOSS", router_loss,
                               "TRAINER.MOCOOP.TOP_K", 1, "OPTIM.WARMUP_EPOCH", -1, out=f"run{leave_out}")  # fmt: skip
        encoded = []
        encode = trainer.encode
        trainer.encode = lambda plan, *args, _encode=encode, _seen=encoded, **more: (
            _seen.append(plan) or _encode(plan, *args, **more)
        )
        if not leave_out:
            trainer.features_for = lambda plan, scores, turn, _trainer=trainer: _trainer.expert_features(plan)
        found.append((*step(trainer), encoded[-1].num_tokens))
    (loss, weights, tokens), (other_loss, other, other_tokens) = found
    assert loss == pytest.approx(other_loss, rel=1e-6) and tokens < other_tokens
    torch.testing.assert_close(weights, other, rtol=1e-6, atol=1e-8)


def test_kgcoop_published_schedule_is_the_cosine_squared(make_trainer):
    rates = []
    for double in (False, True):
        trainer = make_trainer("KgCoOp", METHODS["KgCoOp"], "TRAINER.KGCOOP.DOUBLE_SCHEDULER", double, "OPTIM.MAX_EPOCH", 6)
        rates.append([])
        for _ in range(6):
            rates[-1].append(trainer.get_current_lr())
            trainer.optim.step()
            trainer.update_lr()
    single, squared = rates
    assert single[0] == squared[0] == 1e-5
    assert squared[1:] == pytest.approx([0.002 * (lr / 0.002) ** 2 for lr in single[1:]])


def test_all_classes_serve_the_text_loss(make_trainer):
    trainer = make_trainer("MoCoOp", "vit_b16", "DATASET.SUBSAMPLE_CLASSES", "base")
    hard = trainer.training_targets().hard
    assert trainer.num_classes == 3 and hard[0].shape[1] == len(CLASSES)
