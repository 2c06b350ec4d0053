"""A miniature EuroSAT and a tiny CLIP weight file on disk, and the command line that uses them."""

import json
import pathlib
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests.golden.tiny_clip import state_dict

PROJECT = pathlib.Path(__file__).parents[2]
SPLIT = PROJECT / "tests" / "golden" / "split_zhou_EuroSAT_seed1_sorted.json"


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """data: folder with eurosat/ (10 classes of 30 images, 8 x 8 pixels, a colour a class); weights: a CLIP ViT;
    pairs: the KEY VALUE words that make a run with them small."""
    data = tmp_path_factory.mktemp("miniature")
    folder = data / "eurosat"
    for entries in json.loads(SPLIT.read_text()).values():
        for number, (impath, label, _) in enumerate(entries):
            path = folder / "2750" / impath
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (25 * label, 250 - 25 * label, number % 30 * 8)).save(path)
    (folder / SPLIT.name.replace("_seed1_sorted", "")).write_text(SPLIT.read_text())
    weights = data / "tiny.pt"
    torch.save(state_dict("tiny_clip_vit"), weights)
    pairs = [
        "MODEL.BACKBONE.PATH",
        str(weights),
        "INPUT.SIZE",
        "(32, 32)",
        "DATALOADER.NUM_WORKERS",
        "0",
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        "8",
        "OPTIM.MAX_EPOCH",
        "2",
    ]
    return SimpleNamespace(data=data, weights=weights, pairs=pairs)


@pytest.fixture
def arguments(miniature, tmp_path):
    """Function: options that replace or join the usual ones, KEY VALUE words -> argument list of train.py."""

    def build(*pairs, **options):
        usual = {
            "root": miniature.data,
            "seed": 1,
            "trainer": "CoOp",
            "dataset_config_file": PROJECT / "configs" / "datasets" / "eurosat.yaml",
            "config_file": PROJECT / "configs" / "trainers" / "CoOp" / "vit_b16_ctxv1.yaml",
            "output_dir": tmp_path / "run",
        }
        words = []
        for name, value in {**usual, **options}.items():
            option = "--" + name.replace("_", "-")
            words += [option] if value is True else [option, str(value)]
        return words + ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base", *miniature.pairs, *pairs]

    return build
