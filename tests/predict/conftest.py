"""Finished runs of every kind of method, trained for one epoch with a tiny CLIP on images that are gone afterwards."""

import json
import pathlib
import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import train
from tests.golden.tiny_clip import state_dict

PROJECT = pathlib.Path(__file__).parents[2]
CLASSES = [
    "Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road", "Industrial Buildings",
    "Pasture Land", "Permanent Crop Land", "Residential Buildings", "River", "Sea or Lake",
]  # fmt: skip
RECIPES = {
    "MoCoOp": "vit_b16", "CoOp": "vit_b16_ctxv1", "ZeroshotCLIP": "vit_b16", "LinearProbe": "vit_b16",
    "TaskRes": "adam_lr2e-3_B256_ep100", "CLIP_Adapter": "rn50", "ADAPTER": "SGD_lr1e-1_B256_ep300",
}  # fmt: skip


def make_images(folder):
    """EuroSAT in its own layout: four images a class, one colour each."""
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(CLASSES):
        for number, part in enumerate(("train", "train", "val", "test")):
            impath = f"{name.replace(' ', '')}/{number}.png"
            path = folder / "eurosat" / "2750" / impath
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 36), (25 * label, 250 - 25 * label, 80 * number)).save(path)
            split[part].append([impath, label, name])
    (folder / "eurosat" / "split_zhou_EuroSAT.json").write_text(json.dumps(split))


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """runs: {method: its run folder}; the data set they were trained on and MoCoOp's template file are deleted.

    images: paths of the ten test images, one a class. classes: the class names, in the images' order.
    """
    root = tmp_path_factory.mktemp("predict")
    make_images(root / "data")
    torch.save(state_dict("tiny_clip_vit"), root / "tiny.pt")
    shutil.copy(PROJECT / "templates" / "experts" / "eurosat_5.txt", root / "groups.txt")
    runs = {}
    for method, recipe in RECIPES.items():
        runs[method] = root / method
        status = train.main([
            "--root", str(root / "data"), "--seed", "1", "--trainer", method, "--output-dir", str(runs[method]),
            "--dataset-config-file", str(PROJECT / "configs" / "datasets" / "eurosat.yaml"),
            "--config-file", str(PROJECT / "configs" / "trainers" / method / f"{recipe}.yaml"),
            "MODEL.BACKBONE.PATH", str(root / "tiny.pt"), "INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0",
            "OPTIM.MAX_EPOCH", "1", "TRAINER.MOCOOP.TEMPLATES", str(root / "groups.txt"), "USE_CUDA", "False",
            "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "TRAINER.MOCOOP.TUNE_LAYERNORM", "True", "DATASET.NUM_SHOTS", "1",
            "TRAINER.ADAPTER.INIT", "TipA-f-", "TRAINER.ADAPTER.CONSTRAINT", "none", "TRAINER.ADAPTER.VIEWS", "2",
        ])  # fmt: skip
        assert status == 0
    tests = sorted((root / "data" / "eurosat" / "2750").glob("*/3.png"))
    kept = [root / f"{path.parent.name}.png" for path in tests]
    for path, copy in zip(tests, kept):
        shutil.copy(path, copy)
    shutil.rmtree(root / "data")
    (root / "groups.txt").unlink()
    return SimpleNamespace(root=root, runs=runs, images=[str(path) for path in kept], classes=CLASSES)


@pytest.fixture(scope="session")
def mocoop(world):
    """The trained MoCoOp, loaded."""
    from predict import Predictor

    return Predictor(world.runs["MoCoOp"])
