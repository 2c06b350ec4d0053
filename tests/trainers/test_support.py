"""Methods on frozen features: no image is encoded twice, what settings are chosen on, other classes, published files."""

import json

import pytest
import torch
from PIL import Image

from dassl.utils import UserError
from prompting import unit
from reproduce.recorded import selection_note
from tests.trainers.conftest import CLASSES

METHODS = ["TipAdapter", "TipAdapterF", "LinearProbe_P2"]
FREE = ("TRAINER.TIPADAPTER.AUGMENT_EPOCH", 2)
SEARCH, SELECT = "TRAINER.TIPADAPTER.SEARCH", "TRAINER.LINEARPROBE_P2.SELECT"


def results(folder):
    return json.loads((folder / "results.json").read_text())


def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def varied(tmp_path):
    """Options for a data set of images whose crops differ: 20 to train on, 10 for validation, 10 to test on."""
    for part, n in (("train", 4), ("val", 2), ("test", 2)):
        for c, name in enumerate(CLASSES):
            (tmp_path / "data" / "mine" / part / name).mkdir(parents=True)
            for i in range(n):
                picture = Image.linear_gradient("L").rotate(90 * i).resize((48 + c, 48)).convert("RGB")
                picture.save(tmp_path / "data" / "mine" / part / name / f"{part}{i}.png")
    return ("DATASET.ROOT", str(tmp_path / "data"), "DATASET.FOLDER", "mine")


@pytest.fixture
def encoded(monkeypatch):
    """Function of a trainer -> list that grows by the number of images of each call of its image encoder."""

    def watch(trainer):
        counts, encode = [], trainer.clip.encode_image
        monkeypatch.setattr(trainer.clip, "encode_image", lambda x, *a, **k: counts.append(len(x)) or encode(x, *a, **k))
        return counts

    return watch


@pytest.mark.parametrize("method, views", [("TipAdapter", 2), ("TipAdapterF", 3), ("LinearProbe_P2", 1)])
def test_no_image_is_encoded_twice(method, views, varied, make_trainer, encoded):
    """Tip-Adapter-F's cache takes two of the views of its three epochs."""
    options = (*FREE, *varied, "OPTIM.MAX_EPOCH", 3 if method == "TipAdapterF" else 1)
    first = make_trainer(method, "vit_b16", *options, out="first")
    counts = encoded(first)
    first.train()
    assert sum(counts) == 20 * views + 10 + 10
    second = make_trainer(method, "vit_b16", *options, out="second")
    counts = encoded(second)
    second.train()
    assert counts == [] and torch.equal(*(next(iter(t.learner.state_dict().values())) for t in (first, second)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chosen", ["val", "published", "none"])
def test_what_settings_are_chosen_on_is_recorded(method, chosen, make_trainer, tmp_path):
    select = {"none": "last"}.get(chosen, chosen)
    trainer = make_trainer(method, "vit_b16", *FREE, SEARCH, chosen, SELECT, select)
    trainer.train()
    found = results(tmp_path / "run")["selection"]
    assert found["protocol"] == (select if method == "LinearProbe_P2" else chosen)
    assert ("10 validation images" in found["by"]) is (chosen != "none") or found.get("epoch_by")
    assert bool(selection_note(results(tmp_path / "run"))) is (chosen == "published")
    again = make_trainer(method, "vit_b16", *FREE, SEARCH, chosen, SELECT, select, out="again")
    again.evaluate(str(tmp_path / "run"), 2)
    assert results(tmp_path / "again")["selection"] == found, "an evaluation says how the model's settings were chosen"
    if method != "LinearProbe_P2":
        assert again.learner.alpha.item() == pytest.approx(found["alpha"]) and again.learner.beta.item() == pytest.approx(
            found["beta"]
        )


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_chosen_on_test_images_but_in_the_published_way(method, make_trainer, capsys):
    trainer = make_trainer(method, "vit_b16", *FREE)
    dataset = trainer.dm.dataset
    dataset._val = dataset.test
    trainer.train()
    assert "its validation images are test images" in capsys.readouterr().out
    assert trainer.selection["protocol"] == ("last" if method == "LinearProbe_P2" else "none")


def test_alpha_and_beta_are_the_first_best_pair_of_the_grid(make_trainer):
    trainer = make_trainer("TipAdapter", "vit_b16", *FREE, "TRAINER.TIPADAPTER.SEARCH_SCALE", [4.0, 6.0],
                           "TRAINER.TIPADAPTER.SEARCH_STEP", [5, 4])  # fmt: skip
    trainer.fill_cache()
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(40, 64, generator=generator), torch.randint(0, 5, (40,), generator=generator)
    best = (0.0, None)
    for beta in [0.1 + i * 3.9 / 5 for i in range(5)]:
        for alpha in [0.1 + i * 5.9 / 4 for i in range(4)]:
            trainer.learner.weigh(alpha, beta)
            accuracy = trainer.accuracy(features, labels)
            best = max(best, (accuracy, (alpha, beta)), key=lambda pair: pair[0])
    found, accuracy = trainer.search(features, labels)
    assert (found["alpha"], found["beta"]) == pytest.approx(best[1]) and accuracy == best[0]
    assert trainer.search(features, labels + 5) == ({"alpha": 0.0, "beta": 0.0}, 0.0)


def test_keys_are_unit_means_of_views_in_the_order_of_the_images(varied, make_trainer):
    trainer = make_trainer("TipAdapter", "vit_b16", *FREE, *varied)
    trainer.fill_cache()
    items = trainer.dm.dataset.train_x
    assert trainer.learner.labels.tolist() == [item.label for item in items]
    assert torch.allclose(trainer.learner.keys.norm(dim=1), torch.ones(len(items)))
    views, _ = trainer.support(2)
    assert torch.equal(trainer.learner.keys, unit(views.mean(dim=0)))
    assert not torch.equal(views[0], views[1])


def test_incomplete_batches_are_trained_on_where_the_settings_say_so(make_trainer):
    size = ("DATALOADER.TRAIN_X.BATCH_SIZE", 7)
    assert len(make_trainer("TipAdapterF", "vit_b16", *size).train_loader_x) == 3
    assert len(make_trainer("TipAdapterF", "vit_b16", *size, "DATALOADER.TRAIN_X.DROP_LAST", True).train_loader_x) == 2
    every = make_trainer("TipAdapter", "vit_b16", *FREE, *size, "DATALOADER.TRAIN_X.DROP_LAST", True)
    every.fill_cache()
    assert torch.allclose(every.learner.keys.norm(dim=1), torch.ones(20)), "the cache has every image"


@pytest.mark.parametrize("method", ["TipAdapter", "TipAdapterF"])
def test_classes_without_keys_have_their_text_alone(method, make_trainer, tmp_path):
    make_trainer(method, "vit_b16", *FREE, "DATASET.SUBSAMPLE_CLASSES", "base").train()
    every = make_trainer(method, "vit_b16", *FREE, out="all")
    every.load_model(str(tmp_path / "run"), epoch=2)
    every.set_model_mode("eval")
    assert sorted(set(every.learner.labels.tolist())) == [0, 1, 2] and len(every.learner.keys) == 12
    x = images()
    text = 100 * every.clip.encode_image(x) @ every.class_features.t()
    logits = every.model_inference(x)
    assert torch.allclose(logits[:, 3:], text[:, 3:], atol=1e-4) and not torch.allclose(logits[:, :3], text[:, :3], atol=1e-4)
    new = make_trainer(method, "vit_b16", *FREE, "DATASET.SUBSAMPLE_CLASSES", "new", out="new")
    new.load_model(str(tmp_path / "run"), epoch=2)
    assert torch.allclose(new.model_inference(x), 100 * new.clip.encode_image(x) @ new.class_features.t(), atol=1e-4)


def test_lp_plus_plus_takes_a_part_of_its_classes_and_refuses_others(make_trainer, tmp_path):
    whole = make_trainer("LinearProbe_P2", "vit_b16")
    whole.train()
    whole.set_model_mode("eval")
    part = make_trainer("LinearProbe_P2", "vit_b16", "DATASET.SUBSAMPLE_CLASSES", "new", out="new")
    part.load_model(str(tmp_path / "run"), epoch=2)
    assert torch.allclose(part.model_inference(images()), whole.model_inference(images())[:, 3:], atol=1e-4)
    make_trainer("LinearProbe_P2", "vit_b16", "DATASET.SUBSAMPLE_CLASSES", "base", out="base").train()
    with pytest.raises(UserError, match='nothing for the class "dog"'):
        make_trainer("LinearProbe_P2", "vit_b16", out="all").load_model(str(tmp_path / "base"), epoch=2)


@pytest.mark.parametrize("method, file", [("TipAdapter", "keys_4shots.pt"), ("TipAdapterF", "best_F_4shots.pt")])
def test_files_of_the_published_code_are_evaluated(method, file, make_trainer, tmp_path):
    rng = torch.Generator().manual_seed(2)
    keys, labels = unit(torch.randn(20, 64, generator=rng)), torch.arange(5).repeat_interleave(4)
    folder = tmp_path / "caches" / "mine"
    folder.mkdir(parents=True)
    torch.save(keys.t().half() if method == "TipAdapter" else torch.nn.Parameter(keys), folder / file)
    torch.save(torch.nn.functional.one_hot(labels).half(), folder / "values_4shots.pt")
    trainer = make_trainer(method, "vit_b16", "DATASET.NUM_SHOTS", 4, "TRAINER.TIPADAPTER.INIT_ALPHA", 2.0, out="new")
    trainer.evaluate(str(folder))
    assert torch.allclose(trainer.learner.keys, keys, atol=1e-3) and torch.equal(trainer.learner.labels, labels)
    assert trainer.learner.alpha.item() == 2.0
    (folder / file).unlink()
    with pytest.raises(UserError, match="has values_4shots.pt, but not"):
        trainer.evaluate(str(folder))


def test_more_validation_images(make_trainer):
    trainer = make_trainer("TipAdapter", "vit_b16", "DATASET.NUM_SHOTS", 1)
    dataset = trainer.dm.dataset
    assert len(dataset.val) == 5 and len(trainer.published_validation()) == 10
    a_class = trainer.published_validation(1)
    assert [item.impath for item in a_class] == [item.impath for item in dataset.val], "the draw of the run goes on"
    new = make_trainer("TipAdapter", "vit_b16", "DATASET.SUBSAMPLE_CLASSES", "new", out="new")
    assert {item.label for item in new.published_validation()} == {0, 1}
    whole = dataset.load_split()
    dataset.load_split = lambda: (whole[0], whole[2], whole[2])  # as ImageNet's
    drawn = {item.impath for item in trainer.published_validation(2)}
    assert len(drawn) == 10 and not drawn & {item.impath for item in dataset.train_x} and not drawn & {i.impath for i in whole[2]}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["amp", "bf16"])
def test_precisions(method, precision, make_trainer):
    trainer = make_trainer(
        method, "vit_b16", *FREE, f"TRAINER.{'LINEARPROBE_P2' if method[0] == 'L' else 'TIPADAPTER'}.PREC", precision
    )
    trainer.train()
    assert trainer.model_inference(images()).dtype == torch.float32
