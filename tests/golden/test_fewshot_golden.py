"""The few-shot samples and base/new halves of EuroSAT are those that the published code draws (`fewshot.json`).

Each key `seedS_shotsK_{all,base,new}` of `fewshot.json` holds what the published code drew from the split file beside
it. `n_test` is the size of the test set; `python_rng_untouched` says whether building the dataset left Python's global
generator as it was, which the published code, drawing from that generator, did not, and ours always does.
`published/shot_K-seed_S.pkl` are caches that the published code wrote.
"""

import json
import pathlib
import pickle
import random
import re
import shutil
import types

import pytest

import datasets  # noqa: F401  (registers them)
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from datasets.fewshot import sample_per_class

SPLIT = "split_zhou_EuroSAT_seed1_sorted.json"
CASE = re.compile(r"seed(?P<seed>-?\d+)_shots(?P<shots>-?\d+)_(?P<subsample>all|base|new)")


@pytest.fixture
def cases(golden_dir):
    path = golden_dir / "fewshot.json"
    if not path.exists():
        pytest.skip(f"no fewshot.json in {golden_dir}")
    return json.loads(path.read_text())


@pytest.fixture
def root(golden_dir, tmp_path):
    """A data folder with the split beside the cases (else the project's) and an empty file for every image."""
    split = golden_dir / SPLIT
    if not split.exists():
        split = pathlib.Path(__file__).parent / SPLIT
    folder = tmp_path / "eurosat"
    for entries in json.loads(split.read_text()).values():
        for impath, _, _ in entries:
            image = folder / "2750" / impath
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
    (folder / "split_zhou_EuroSAT.json").write_text(split.read_text())
    return tmp_path


def build(root, seed, shots, subsample):
    cfg = get_cfg_default()
    cfg.DATASET.NAME = "EuroSAT"
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NUM_SHOTS = int(shots)
    cfg.DATASET.SUBSAMPLE_CLASSES = subsample
    cfg.SEED = int(seed)
    return DATASET_REGISTRY.get("EuroSAT")(cfg)


def rows(data):
    return [[pathlib.Path(item.impath).name, item.label, item.classname] for item in data]


def found(dataset):
    """What our dataset gives for each field of a case."""
    return {
        "train": rows(dataset.train_x),
        "val": rows(dataset.val),
        "test": rows(dataset.test),
        "n_test": len(dataset.test),
        "classnames": list(dataset.classnames),
        "num_classes": dataset.num_classes,
        "lab2cname": {str(label): name for label, name in dataset.lab2cname.items()},
    }


def test_every_case_is_reproduced(cases, root):
    assert cases
    for name, case in cases.items():
        setting = CASE.fullmatch(name)
        assert setting, f"unknown kind of case {name}"
        random.seed(12345)
        state = random.getstate()
        drawn = found(build(root, **setting.groupdict()))
        assert random.getstate() == state, f"{name}: Python's generator was disturbed"
        cached = found(build(root, **setting.groupdict()))
        assert drawn == cached, f"{name}: the cache gives another sample"
        for key in case.keys() - {"python_rng_untouched"}:
            assert drawn[key] == case[key], f"{name}: {key}"


def test_published_code_disturbed_pythons_generator_and_the_draw_is_from_it(cases, root):
    """What `python_rng_untouched` records: the published draw, replayed with the global generator, changes it."""
    for name, case in cases.items():
        if "python_rng_untouched" not in case:
            continue
        setting = CASE.fullmatch(name).groupdict()
        whole = build(root, setting["seed"], -1, "all")
        random.seed(int(setting["seed"]))
        state = random.getstate()
        train = sample_per_class(whole.train_x, int(setting["shots"]), random)
        sample_per_class(whole.val, min(int(setting["shots"]), 4), random)
        assert rows(train) == case["train"], name
        assert (random.getstate() == state) is case["python_rng_untouched"], name


class PlainUnpickler(pickle.Unpickler):
    """Reads a published cache independently of the project: every class becomes a bag of attributes."""

    def find_class(self, module, name):
        return types.SimpleNamespace


def test_published_caches_are_used_as_they_are(golden_dir, root):
    """Each `published/shot_K-seed_S.pkl`: its samples, in its order, found in this data folder."""
    folder = root / "eurosat" / "split_fewshot"
    folder.mkdir()
    for path in sorted((golden_dir / "published").glob("shot_*-seed_*.pkl")):
        shots, seed = re.fullmatch(r"shot_(\d+)-seed_(-?\d+)", path.stem).groups()
        with open(path, "rb") as f:
            cache = PlainUnpickler(f).load()
        for item in cache["train"] + cache["val"]:
            image = root / "eurosat" / "2750" / "/".join(item._impath.split("/")[-2:])
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
        shutil.copy(path, folder)
        dataset = build(root, seed, shots, "all")
        for part, data in (("train", dataset.train_x), ("val", dataset.val)):
            expected = [[pathlib.Path(i._impath).name, i._label, i._classname] for i in cache[part]]
            assert rows(data) == expected, path.name
            assert all(str(root) in item.impath for item in data)
