"""A run with the feature cache is, bit for bit, the run without it, and reads no image that another run has encoded."""

import json
import os
import shutil

import pytest
import torch

import dassl.data.data_manager as data_manager
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from learning import ImageLearning
from learning.image_side import resolved_learning
from prompting import unit
from tests.trainers.test_trainers import METHODS, learned
from trainers.coop import CoOp

OFF, VIEWS = ("TRAINER.FEATURE_CACHE", ""), ("TRAINER.CACHE_VIEWS", True)


@pytest.fixture
def cached(make_trainer, tmp_path, image_root):
    """make_trainer on a copy of the data, so that every test starts with an empty cache."""
    root = tmp_path / "data"
    shutil.copytree(image_root, root, ignore=shutil.ignore_patterns(".features"))

    def make(method, *pairs, **kwargs):
        return make_trainer(method, METHODS[method], "DATASET.ROOT", str(root), *pairs, **kwargs)

    make.root, make.folder = root, root / ".features"
    make.entries = lambda: sorted(make.folder.glob("*.safetensors"))
    return make


@pytest.fixture
def images_read(monkeypatch):
    """List that the paths of the images are added to which are read."""
    paths, read = [], data_manager.read_image
    monkeypatch.setattr(data_manager, "read_image", lambda path, upright: (paths.append(path), read(path))[1])
    return paths


def outcome(trainer):
    """Train; what was learned, and the metrics in results.json."""
    trainer.train()
    with open(os.path.join(trainer.output_dir, "results.json"), encoding="utf-8") as f:
        return learned(trainer), json.load(f)["metrics"]


def same(a, b):
    return a[1] == b[1] and a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0])


@pytest.mark.parametrize("method", METHODS)
def test_cached_runs_equal_the_uncached_run(method, cached, images_read):
    trainer = cached(method, *OFF, out="plain")
    kept, plain = resolved_learning(trainer).takes_features, outcome(trainer)
    assert not cached.folder.exists()
    filling = outcome(cached(method, *VIEWS, out="filling"))
    entries = cached.entries()
    assert bool(entries) == kept and same(plain, filling)
    images_read.clear()
    reading = outcome(cached(method, *VIEWS, out="reading"))
    assert same(plain, reading) and bool(images_read) != kept and cached.entries() == entries


def test_methods_share_features(cached, images_read):
    outcome(cached("CoOp", *VIEWS, out="a"))
    entries, _ = cached.entries(), images_read.clear()
    for method in ("MoCoOp", "KgCoOp", "ZeroshotCLIP"):
        trainer = cached(method, *VIEWS, "INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize"),
                         "DATALOADER.TRAIN_X.BATCH_SIZE", 4, out=method)  # fmt: skip
        outcome(trainer)
    assert not images_read and cached.entries() == entries


def test_test_features_alone_are_kept_by_default(cached, images_read):
    plain = outcome(cached("CoOp", *OFF, out="plain"))
    assert same(plain, outcome(cached("CoOp", out="a"))) and len(cached.entries()) == 1
    images_read.clear()
    assert same(plain, outcome(cached("CoOp", out="b")))
    assert images_read and all("/train/" in path for path in images_read)


def test_validation_after_every_epoch_reads_each_image_once(cached, images_read):
    best = ("TEST.FINAL_MODEL", "best_val")
    plain = outcome(cached("CoOp", *OFF, *best, out="plain"))
    images_read.clear()
    assert same(plain, outcome(cached("CoOp", *best, out="a")))
    val = [path for path in images_read if "/val/" in path]
    assert len(val) == len(set(val)) == 10


@pytest.mark.parametrize("pairs", [
    ("SEED", 2), ("DATALOADER.TRAIN_X.BATCH_SIZE", 5), ("INPUT.RRCROP_SCALE", (0.5, 1.0)),
    ("INPUT.INTERPOLATION", "bilinear", "INPUT.PREPROCESS", "yaml"),
    ("DATASET.SUBSAMPLE_CLASSES", "new"), ("TRAINER.COOP.PREC", "bf16"),
])  # fmt: skip
def test_what_would_change_the_features_is_another_entry(pairs, cached, images_read):
    one_epoch = (*VIEWS, "OPTIM.MAX_EPOCH", 1)
    outcome(cached("CoOp", *one_epoch, out="a"))
    plain = outcome(cached("CoOp", "OPTIM.MAX_EPOCH", 1, *OFF, *pairs, out="plain"))
    images_read.clear()
    assert same(plain, outcome(cached("CoOp", *one_epoch, *pairs, out="b")))
    assert any("/train/" in path for path in images_read)


def test_other_weights_are_another_entry(cached, images_read):
    outcome(cached("ZeroshotCLIP", out="a"))
    other = cached("ZeroshotCLIP", out="b")
    with torch.no_grad():
        other.clip.visual.proj[0, 0] += 0.01
    images_read.clear()
    other.test()
    assert len(images_read) == 10 and len(cached.entries()) == 2


def test_a_changed_image_is_encoded_again(cached, images_read, capsys):
    outcome(cached("ZeroshotCLIP", out="a"))
    first, second = sorted((cached.root / "mine" / "test").glob("*/*.png"))[:2]
    first.write_bytes(second.read_bytes())
    images_read.clear()
    plain = outcome(cached("ZeroshotCLIP", *OFF, out="plain"))
    capsys.readouterr()
    assert same(plain, outcome(cached("ZeroshotCLIP", out="b")))
    assert len(images_read) == 20 and "have changed" in capsys.readouterr().out and len(cached.entries()) == 1


def test_workers_fill_the_same_entries(cached, images_read):
    outcome(cached("CoOp", *VIEWS, "DATALOADER.NUM_WORKERS", 2, out="a"))
    images_read.clear()
    outcome(cached("CoOp", *VIEWS, out="b"))
    assert not images_read


def test_resumed_in_the_middle_of_a_filled_cache(cached):
    plain = outcome(cached("CoOp", *OFF, "OPTIM.MAX_EPOCH", 3, out="plain"))
    half = cached("CoOp", *VIEWS, "OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, out="half")

    def stop():
        if half.epoch == 1:
            raise KeyboardInterrupt

    half.before_epoch = stop
    with pytest.raises(KeyboardInterrupt):
        half.train()
    assert type(half.train_loader_x).__name__ == "_Loader"
    again = cached("CoOp", *VIEWS, "OPTIM.MAX_EPOCH", 3, out="half")
    assert same(plain, outcome(again)) and again.start_epoch == 1


def test_a_recipe_that_trains_the_image_encoder_caches_nothing(cached, capsys):
    tune = ("TRAINER.MOCOOP.TUNE_LAYERNORM", True)
    plain = outcome(cached("MoCoOp", *OFF, *tune, out="plain"))
    capsys.readouterr()
    assert same(plain, outcome(cached("MoCoOp", *VIEWS, *tune, out="a")))
    lines = [line for line in capsys.readouterr().out.split("\n") if "not cached" in line]
    assert len(lines) == 1 and "MoCoOp learns layers of the image encoder" in lines[0] and not cached.entries()


def test_a_method_that_looks_at_pixels_gets_pixels(cached, capsys, monkeypatch):
    shapes = set()

    class Pixels(CoOp):
        def encode_image(self, images):
            shapes.add(images.shape[1:])
            return super().encode_image(images)

    trainer = cached("CoOp", *VIEWS)
    trainer.__class__ = Pixels
    outcome(trainer)
    assert shapes == {(3, 32, 32)} and "Pixels learns something on images that it doesn't declare" in capsys.readouterr().out


class Undeclared(CoOp):
    """Learns a vector that is added to every image feature."""

    def build_learner(self, classnames):
        learner = super().build_learner(classnames)
        learner.shift = torch.nn.Parameter(torch.full((self.clip.embed_dim,), 0.1))
        return learner

    def encode_image(self, images):
        return unit(super().encode_image(images) + self.learner.shift)


class Head(Undeclared):
    image_learning = ImageLearning.HEAD


class Adapters(Undeclared):
    image_learning = ImageLearning.ADAPTERS


class Below(Head):
    """What it learns now isn't what the class above has declared."""

    def encode_image(self, images):
        return super().encode_image(images)


def test_a_declaration_decides_about_speed_and_never_about_numbers(cached, images_read, monkeypatch, capsys):
    runs, kept = {}, {}
    for cls in (Undeclared, Head, Adapters, Below):
        monkeypatch.setitem(TRAINER_REGISTRY._obj_map, cls.__name__, cls)
        for number in (1, 2):
            images_read.clear()
            trainer = cached("CoOp", *VIEWS, "TRAINER.NAME", cls.__name__, out=f"{cls.__name__}{number}")
            runs[cls, number] = outcome(trainer)
        kept[cls] = not images_read
        assert (trainer.learner.shift - 0.1).abs().max() > 1e-5
        evaluated = trainer.model_inference(torch.ones(2, 3, 32, 32))
        with torch.no_grad():
            trainer.learner.shift.fill_(1)
        assert not torch.equal(trainer.model_inference(torch.ones(2, 3, 32, 32)), evaluated)
    assert kept == {Undeclared: False, Head: True, Adapters: False, Below: False}
    assert all(same(run, runs[Undeclared, 1]) for run in runs.values())
    said = capsys.readouterr().out
    assert "not cached: Undeclared learns something" in said and "not cached: Adapters learns adapters" in said


def test_a_declaration_that_is_not_true_is_an_error(cached, monkeypatch):
    class Liar(Undeclared):
        image_learning = ImageLearning.NOTHING

    class Tuner(CoOp):
        def build_learner(self, classnames):
            self.clip.visual.proj.requires_grad_(True)
            return super().build_learner(classnames)

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Liar", Liar)
    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Tuner", Tuner)
    with pytest.raises(UserError, match="Liar declares that it learns nothing on images, but its image features"):
        outcome(cached("CoOp", "TRAINER.NAME", "Liar"))
    with pytest.raises(UserError, match="Tuner learns weights of the image encoder but declares"):
        cached("CoOp", "TRAINER.NAME", "Tuner")


def test_views_without_a_seed_are_not_kept(cached, capsys):
    outcome(cached("CoOp", *VIEWS, "SEED", -1))
    assert "without --seed" in capsys.readouterr().out and len(cached.entries()) == 1


def test_linear_probe_encodes_each_split_once(cached, images_read):
    outcome(cached("LinearProbe", out="a"))
    assert len(images_read) == 40 == len(set(images_read)) and len(cached.entries()) == 3


@pytest.mark.parametrize("folder", ["", "off", "False"])
def test_views_without_a_folder_are_an_error(folder, cached):
    with pytest.raises(UserError, match="--cache-features"):
        cached("CoOp", *VIEWS, "TRAINER.FEATURE_CACHE", folder)


def test_folder_and_limit_are_settings(cached, tmp_path, capsys):
    place = tmp_path / "elsewhere"
    outcome(cached("CoOp", *VIEWS, "TRAINER.FEATURE_CACHE", str(place), "TRAINER.FEATURE_CACHE_GB", 9e-6))
    kept = list(place.glob("*.safetensors"))
    assert kept and sum(p.stat().st_size for p in kept) <= 9000 and not cached.folder.exists()
    assert "least recently used" in capsys.readouterr().out
