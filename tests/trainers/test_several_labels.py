"""Images with several labels: loss, bias, mAP, few-shot samples, every method that takes them, and refusals of the others."""

import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score

from basics import UserError
from dassl.config import check, get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import build_evaluator
from inference import Predictor, read_predictions
from inference import export as exporting
from learning.several_labels import binary_cross_entropy, fitted_bias
from tests.predict.test_export import WRITES_ONNX, read
from tests.trainers.test_trainers import METHODS, interrupted, learned

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
TAKE = {
    "ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoOp_ATP", "CoCoOp", "KgCoOp", "MoCoOp", "VPT", "IVLP", "MaPLe", "MMRL",
    "MultiModalAdapter", "TCP", "CLIPLoRA", "TwoSFS", "TaskRes", "CLIP_Adapter",
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A data folder with an ImageList of halves of colours, every other file with a split of its own."""
    root = tmp_path_factory.mktemp("data")
    folder, rng, lines = root / "halves", random.Random(0), []
    folder.mkdir()
    for number in range(24):
        names = rng.sample(sorted(COLOURS), 1 + number % 2)
        image = Image.new("RGB", (32, 32), COLOURS[names[0]])
        image.paste(COLOURS[names[-1]], (16, 0, 32, 32))
        image.save(folder / f"{number}.png")
        split = ("train", "train", "val", "test")[number // 2 % 4]
        lines.append(json.dumps({"image": f"{number}.png", "labels": names, "split": split}))
    (folder / "labels.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture
def make(make_trainer, pictures):
    """make_trainer on these pictures."""
    data = ("DATASET.NAME", "ImageList", "DATASET.ROOT", str(pictures), "DATASET.FOLDER", "halves", "DATASET.MULTI_LABEL", True)
    return lambda method, *pairs, out="run": make_trainer(method, METHODS[method], *data, *pairs, out=out)


def test_loss_is_binary_cross_entropy():
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])
    naive = 0.0
    for row, truth in zip(logits.tolist(), labels.tolist()):
        for x, y in zip(row, truth):
            p = 1 / (1 + math.exp(-x))
            naive -= math.log(p if y else 1 - p)
    assert binary_cross_entropy(logits, labels).item() == pytest.approx(naive / 5, abs=1e-12)


def test_the_bias_is_where_the_loss_is_lowest():
    generator = torch.Generator().manual_seed(0)
    logits, labels = 100 * torch.rand(40, 6, generator=generator), (torch.rand(40, 6, generator=generator) < 0.3).float()
    b = fitted_bias(logits, labels)
    loss = lambda b: binary_cross_entropy(logits.double() + b, labels).item()  # noqa: E731
    assert (logits.double() + b).sigmoid().mean().item() == pytest.approx(labels.double().mean().item(), abs=1e-9)
    assert all(loss(b) < loss(b + step) for step in (-0.1, -0.01, 0.01, 0.1))


def average_precision(truth, scores):
    """By its definition: the sum over ranks of precision there, where an image of the class is, over their number."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order].astype(float)
    return sum(hits[: k + 1].mean() for k in range(len(hits)) if hits[k]) / hits.sum()


def test_map_by_hand(tmp_path):
    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.MULTI_LABEL", True, "TEST.LABEL_THRESHOLD", 0.6, "OUTPUT_DIR", str(tmp_path)])
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(30, 4)).astype(np.float32), (rng.random((30, 4)) < 0.4).astype(np.float32)
    labels[:, 3] = 0  # no image has it
    evaluator = build_evaluator(cfg, lab2cname=dict(enumerate("abcd")))
    for part in (slice(0, 20), slice(20, 30)):
        evaluator.process(torch.from_numpy(logits[part]), torch.from_numpy(labels[part]))
    results, per_class = evaluator.evaluate(), evaluator.per_class()
    expected = [100 * average_precision(labels[:, c], logits[:, c]) for c in range(3)]
    assert per_class[3] is None and per_class[:3] == pytest.approx(expected, abs=1e-9)
    assert per_class[0] == pytest.approx(100 * average_precision_score(labels[:, 0], logits[:, 0]), abs=1e-9)
    assert next(iter(results)) == "mAP" and results["mAP"] == pytest.approx(np.mean(expected), abs=1e-9)
    found = 1 / (1 + np.exp(-logits[:, :3])) >= 0.6
    assert results["macro_f1"] == pytest.approx(100 * f1_score(labels[:, :3], found, average="macro"), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_or_refuses(method, make, tmp_path):
    assert TRAINER_REGISTRY.get(method).has_several_labels() == (method in TAKE)
    if method not in TAKE:
        with pytest.raises(UserError, match=f"DATASET.MULTI_LABEL: {method} has no loss for images with several labels"):
            make(method)
        return
    trainer = make(method, "TEST.SAVE_PREDICTIONS", True)
    before = learned(trainer)
    trainer.train()
    after, results = learned(trainer), json.loads((tmp_path / "run" / "results.json").read_text())
    assert not before or any(not torch.equal(before[name], after[name]) for name in before if name != "label_bias")
    metrics, saved = results["metrics"], read_predictions(tmp_path / "run")
    assert metrics["total"] == 6 and metrics["mAP"] == pytest.approx(np.mean([ap for ap in metrics["per_class_ap"] if ap]))
    assert "accuracy" not in metrics and results["multi_label"] == {"bias": trainer.label_bias, "threshold": 0.5}
    assert saved.labels.shape == saved.logits.shape == (6, 4) and saved.labels.sum() == metrics["labels"]
    assert 0 < results["multi_label"]["bias"] or results["multi_label"]["bias"] < 0
    predictor = Predictor(tmp_path / "run", overrides=["TEST.LABEL_THRESHOLD", 0.4])
    item = trainer.dm.dataset.test[0]
    (found,) = predictor([item.impath], top=4)
    shares = dict(zip(saved.classnames, (1 / (1 + np.exp(-saved.logits[0].astype(np.float64)))).tolist()))
    assert {c["name"]: c["probability"] for c in found["classes"]} == pytest.approx(shares, abs=5e-3)  # amp rounds by the batch
    assert found["labels"] == [name for name in saved.classnames if shares[name] >= 0.4]


@pytest.fixture
def exported(make, pictures, tmp_path):
    """Export a method's run; (run, predictor, folder of the classifier, photographs, their logits)."""

    def export(method, onnx):
        run = make(method, "TRAINER.MOCOOP.TUNE_LAYERNORM", False)
        run.test() if method == "ZeroshotCLIP" else run.train()
        predictor = Predictor(run.output_dir, overrides=["TEST.LABEL_THRESHOLD", 0.4])
        exporting.export(predictor, tmp_path / "classifier", onnx)
        photos = sorted(str(file) for file in (pictures / "halves").glob("*.png"))
        logits = torch.cat([batch.logits for batch in predictor.batches(photos)]).numpy()
        return run, predictor, str(tmp_path / "classifier"), photos, logits

    return export


@pytest.mark.parametrize("method", ["ZeroshotCLIP", "CoOp", "MoCoOp"])
def test_an_exported_classifier_has_the_bias(method, exported):
    run, predictor, folder, photos, logits = exported(method, onnx=False)
    pixels = torch.stack([predictor.transform(Image.open(path).convert("RGB")) for path in photos])
    with torch.no_grad():
        features = predictor.trainer.clip.encode_image(pixels, raw=True).numpy()
    left = read(1, folder=folder, features=features)
    np.testing.assert_allclose(left["logits"], logits, rtol=1e-4, atol=1e-4)
    assert left["about"]["multi_label"] == {"bias": run.label_bias, "threshold": 0.4} and run.label_bias != 0


@pytest.mark.timeout(600)
@WRITES_ONNX
def test_onnx_names_the_same_labels(exported):
    pytest.importorskip("onnxscript")
    _, predictor, folder, photos, logits = exported("MoCoOp", onnx=True)
    left = read(0, folder=folder, paths=photos)
    np.testing.assert_allclose(left["logits"], logits, rtol=1e-3, atol=1e-3)
    assert left["found"] == [found["labels"] for found in predictor(photos)] and any(left["found"])


@pytest.mark.parametrize("method", ["CoOp", "MoCoOp"])
def test_an_interrupted_run_ends_as_one_that_was_not(method, make, tmp_path):
    whole, half = (make(method, "OPTIM.MAX_EPOCH", 3, out=out) for out in ("whole", "half"))
    whole.train()
    interrupted(half, 1)
    again = make(method, "OPTIM.MAX_EPOCH", 3, out="half")
    again.train()
    assert again.start_epoch == 1 and again.label_bias == whole.label_bias != 0
    assert all(torch.equal(value, learned(again)[name]) for name, value in learned(whole).items())
    metrics = [json.loads((tmp_path / out / "results.json").read_text())["metrics"] for out in ("whole", "half")]
    assert metrics[0] == metrics[1]


def test_a_step_is_that_of_the_loss(make):
    """Labels of a batch are [B, C], and the loss that training takes is the naive one of logits and bias."""
    trainer = make("CoOp")
    trainer.label_bias = -3.0
    batch = next(iter(trainer.train_loader_x))
    images, labels = trainer.parse_batch_train(batch)
    names = [trainer.dm.dataset.train_x[i].classname for i in batch["index"].tolist()]
    assert [tuple(trainer.dm.dataset.classnames[c] for c in row.nonzero().flatten()) for row in labels] == names
    loss, logits, _ = trainer.loss(trainer.batch_features(images), labels)
    p = (logits.detach().double() - 3.0).sigmoid()
    naive = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum() / len(labels)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-5)


def test_few_shots_of_every_label(make, capsys):
    sample = lambda seed, out: make("ZeroshotCLIP", "DATASET.NUM_SHOTS", 2, "SEED", seed, out=out).dm.dataset.train_x  # noqa: E731
    first, same, other = (sample(seed, out) for seed, out in ((1, "a"), (1, "b"), (2, "c")))
    paths = [[item.impath for item in data] for data in (first, same, other)]
    assert paths[0] == paths[1] != paths[2] and len(set(paths[0])) == len(paths[0]) < 12
    assert all(sum(label in item.label for item in first) >= 2 for label in range(4))


REFUSED = {
    ("DATASET.SUBSAMPLE_CLASSES", "base"): "DATASET.SUBSAMPLE_CLASSES base: has a meaning for images of one class only",
    ("TEST.TOP_K", (2,)): r"TEST.TOP_K \(2,\): has a meaning for images of one class only",
    ("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler"): "DATALOADER.TRAIN_X.SAMPLER RandomClassSampler",
    ("TEST.COMPUTE_CMAT", True): "TEST.COMPUTE_CMAT True",
}  # fmt: skip


@pytest.mark.parametrize("pair", REFUSED)
def test_settings_of_images_with_one_class(pair):
    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.MULTI_LABEL", True, *pair])
    with pytest.raises(UserError, match=REFUSED[pair]):
        check(cfg)


def test_key_and_data_set_must_agree(make, make_trainer, image_root):
    with pytest.raises(UserError, match="ImageList: its images may have several labels; set DATASET.MULTI_LABEL True"):
        make("CoOp", "DATASET.MULTI_LABEL", False)
    with pytest.raises(UserError, match="DATASET.MULTI_LABEL True: an image of ImageFolder has one label"):
        make_trainer("CoOp", METHODS["CoOp"], "DATASET.MULTI_LABEL", True)
    with pytest.raises(UserError, match="ROUTER_TARGET true_class: with DATASET.MULTI_LABEL"):
        make("MoCoOp", "TRAINER.MOCOOP.ROUTER_TARGET", "true_class")
    with pytest.raises(UserError, match="TEST.EVALUATOR MultiLabel is for images with several labels"):
        make_trainer("CoOp", METHODS["CoOp"], "TEST.EVALUATOR", "MultiLabel")


def test_a_method_with_a_loss_of_its_own_must_say_so():
    """One that only has the default loss needn't; one below a method that says so must say it again."""
    from learning import PromptTrainer

    plain = type("Plain", (PromptTrainer,), {})
    own = type("Own", (TRAINER_REGISTRY.get("KgCoOp"),), {"loss": lambda self, features, labels: None})
    assert plain.has_several_labels() and not own.has_several_labels()
    assert type("Said", (own,), {"takes_several_labels": True}).has_several_labels()


FILES = {
    "image,label\n1.png,a\n": "must name the columns image and labels",
    "image,labels\n1.png,a\n1.png,b\n": "stands in .*line 2, too",
    "image,labels\n../1.png,a\n": "must be a path below the folder",
    "image,labels,split\n1.png,a,train\n2.png,b,dev\n": "line 3: the split must be train, val or test, but is 'dev'",
    "image,labels,split\n1.png,a,train\n2.png,b,\n": "no split, though other images have one",
    "image,labels,split\n1.png,a,train\n2.png,b,test\n": "no training image has the label 'b'",
    "image,labels\n1.png,a\n2.png,a\n": r"1 label\(s\) occur",
    "image,labels\n": "names no image",
    'image,labels\n"1.png,a\n': "cannot read",
}


@pytest.mark.parametrize("text", FILES)
def test_files_that_cannot_be(text, tmp_path):
    from datasets.image_list import ImageList

    (tmp_path / "labels.csv").write_text(text)
    for name in ("1.png", "2.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.ROOT", str(tmp_path)])
    with pytest.raises(UserError, match=FILES[text]):
        ImageList(cfg)


def test_without_a_file_or_with_two(tmp_path, capsys):
    from datasets.image_list import label_file

    with pytest.raises(UserError, match="neither labels.csv nor labels.jsonl"):
        label_file(tmp_path)
    for name in ("labels.csv", "labels.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match="both labels.csv and labels.jsonl"):
        label_file(tmp_path)


def test_labels_decide_a_run(make, pictures, tmp_path, capsys):
    """With other labels in the file the same command is refused."""
    make("CoOp").train()
    file = pictures / "halves" / "labels.jsonl"
    text = file.read_text()
    file.write_text(text.replace('"white"', '"blue"', 1))
    try:
        with pytest.raises(UserError, match="images"):
            make("CoOp").train()
    finally:
        file.write_text(text)
