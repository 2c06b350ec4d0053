"""The built-in sets as datasets: pixels, layout on disk, and what happens when something is in the way."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

import datasets  # noqa: F401  (registers them)
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets.builtin import base, sets

NAMES = {"digits": "Digits", "letters": "Letters", "shapes": "Shapes", "textures": "Textures"}
NAMES |= {f"letters_{style}": f"Letters{style.capitalize()}" for style in sets.LETTER_STYLES}


def open_set(name, root, shots=-1, subsample="all"):
    cfg = get_cfg_default()
    cfg.merge_from_file(os.path.join(os.path.dirname(datasets.__file__), "..", "configs", "datasets", f"{name}.yaml"))
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES, cfg.SEED = str(root), shots, subsample, 1
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", NAMES)
def test_set_on_disk(name, root, capsys):
    dataset = open_set(name, root)
    out = capsys.readouterr().out
    assert f"Making the built-in set {name}" in out
    assert "differ from those" not in out, "the pixels have changed: results can't be compared with published ones"
    assert (len(dataset.classnames), len(dataset.train_x), len(dataset.val or []), len(dataset.test)) == dataset.counts
    assert dataset.classnames == dataset.all_classnames == sets.CLASSES[name]
    assert {(root / name).name} == {p for p in os.listdir(root) if p == name or p.startswith(f".{name}.")}
    item = dataset.test[-1]
    assert Image.open(item.impath).size == (48, 48) and Image.open(item.impath).mode == "RGB"
    before = os.stat(item.impath).st_mtime_ns
    again = open_set(name, root)
    assert os.stat(item.impath).st_mtime_ns == before and "Making" not in capsys.readouterr().out
    assert [(d.impath, d.label) for d in again.test] == [(d.impath, d.label) for d in dataset.test]


def test_parts_are_disjoint_and_saved_as_rendered(root):
    dataset = open_set("textures", root)
    paths = [{d.impath for d in part} for part in (dataset.train_x, dataset.val, dataset.test)]
    assert not paths[0] & paths[1] and not paths[0] & paths[2] and not paths[1] & paths[2]
    images, labels = sets.make("textures")["val"]
    assert [d.label for d in dataset.val] == labels.tolist()
    assert all(np.array_equal(np.asarray(Image.open(d.impath)), image) for d, image in zip(dataset.val, images))


def test_few_shots_base_and_new(root):
    base_set, new_set = (open_set("letters", root, shots=4, subsample=s) for s in ("base", "new"))
    assert base_set.classnames == sets.LETTER_NAMES[:13] and new_set.classnames == sets.LETTER_NAMES[13:]
    assert len(base_set.train_x) == 52 and {d.label for d in new_set.test} == set(range(13))


def test_digits_are_the_real_ones():
    from sklearn.datasets import load_digits

    parts = sets.make("digits")
    assert sum(len(labels) for _, labels in parts.values()) == len(load_digits().target) == 1797
    zero = parts["train"][1].tolist().index(sets.CLASSES["digits"].index("zero"))
    image = parts["train"][0][zero][6:-4:5, 6:-4:5, 0].astype(float)  # one value of each of the 8 x 8 squares
    assert np.corrcoef(image.ravel(), load_digits().images[0].ravel())[0, 1] > 0.999


def test_other_pixels_are_noticed(root, monkeypatch, capsys):
    open_set("letters_dark", root)
    monkeypatch.setitem(sets.PIXELS, "letters_dark", "0" * 64)
    capsys.readouterr()
    open_set("letters_dark", root)
    assert "letters_dark differ from those that the published results were made with" in capsys.readouterr().out


def test_hash_sees_one_pixel():
    draw = sets.make.__wrapped__  # not the copy that tests share
    parts = draw("letters_sketch")
    before = sets.pixel_hash(parts)
    assert before == sets.pixel_hash(draw("letters_sketch"))
    parts["test"][0][7, 11, 13, 1] ^= 1
    assert sets.pixel_hash(parts) != before


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "letters_dark").mkdir()
    (tmp_path / "letters_dark" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is in the way"):
        open_set("letters_dark", tmp_path)
    assert os.listdir(tmp_path) == ["letters_dark"] and (tmp_path / "letters_dark" / "mine.txt").read_text() == "keep"


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            open_set("letters_dark", tmp_path)
    assert os.listdir(tmp_path) == []
    assert len(open_set("letters_dark", tmp_path).test) == 520


def test_missing_image_says_what_to_do(tmp_path):
    dataset = open_set("letters_blurry", tmp_path)
    folder = os.path.dirname(dataset.test[0].impath)
    os.rename(folder, folder + "_lost")
    with pytest.raises(UserError, match="makes it anew"):
        open_set("letters_blurry", tmp_path)


def test_manifest_of_another_set_is_refused(tmp_path):
    open_set("letters_blurry", tmp_path)
    (tmp_path / "letters_blurry" / base.MANIFEST).write_text(json.dumps({"set": "letters_dark", "pixels": ""}))
    with pytest.raises(UserError, match="doesn't describe"):
        open_set("letters_blurry", tmp_path)


def write_when_all_are_ready(barrier, folder, written, work):
    write_set = base.write_set

    def counted(*args):
        with written:
            written.value += 1
        write_set(*args)

    base.write_set = counted
    barrier.wait()
    base.make_set(folder) if work == "make_set" else base.write_set("letters_sketch", folder)


@pytest.mark.parametrize("work, times", [("make_set", 1), ("write_set", 2)])  # the latter: as where there are no locks
def test_two_processes_at_once(tmp_path, work, times):
    context = multiprocessing.get_context("fork")
    barrier, written = context.Barrier(2), context.Value("i")
    folder = str(tmp_path / "letters_sketch")
    workers = [context.Process(target=write_when_all_are_ready, args=(barrier, folder, written, work)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0] and written.value == times
    assert os.listdir(tmp_path) == ["letters_sketch"] and len(open_set("letters_sketch", tmp_path).test) == 520
