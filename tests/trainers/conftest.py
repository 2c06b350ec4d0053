"""Trainers on EuroSAT's class names and a tiny CLIP, fed with random images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import datasets  # noqa: F401  (registers)
import trainers
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from tests.golden.tiny_clip import state_dict

PROJECT = Path(__file__).parents[2]
CLASSES = ["apple", "bell", "cat_flap", "dog", "electric_fan"]
# what fits the tiny CLIP's two layers
TINY = {
    "VPT": ("TRAINER.VPT.PROMPT_DEPTH_VISION", 2),
    "IVLP": ("TRAINER.IVLP.PROMPT_DEPTH_VISION", 2, "TRAINER.IVLP.PROMPT_DEPTH_TEXT", 2),
    "PromptSRC": ("TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", 2, "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", 2),
    "MaPLe": ("TRAINER.MAPLE.PROMPT_DEPTH", 2),
    "MultiModalAdapter": ("TRAINER.MMADAPTER.ADAPTER_START", 1, "TRAINER.MMADAPTER.ADAPTER_END", 2),
    "MMRL": ("TRAINER.MMRL.REP_LAYERS", [1, 2], "TRAINER.MMRL.REP_DIM", 32),
    "TCP": ("TRAINER.TCP.LAYER", 1),
    "CoOp_ATP": ("TRAINER.ATPROMPT.ATT_NUM", 1, "TRAINER.ATPROMPT.ATT1_TEXT", "shape", "TRAINER.COOP.N_CTX", 4),
    "CLIPLoRA": ("TRAINER.CLIPLORA.ITERS_PER_SHOT", 0),
    "TwoSFS": ("TRAINER.TWOSFS.ITERS_PER_SHOT", 0),
    "CrossModal": ("OPTIM.WARMUP_EPOCH", 1, "TRAINER.CROSSMODAL.LR", [0.01], "TRAINER.CROSSMODAL.BATCH_SIZE", [4]),
}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    torch.save(state_dict("tiny_clip_vit"), path)
    return path


@pytest.fixture(scope="session")
def image_root(tmp_path_factory):
    """A data folder with one dataset of class folders: 5 classes, 8 images each of which every class has its own colour."""
    root = tmp_path_factory.mktemp("data")
    for c, name in enumerate(CLASSES):
        for split, count in (("train", 4), ("val", 2), ("test", 2)):
            folder = root / "mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (50 * c, 255 - 50 * c, 30 * i)).save(folder / f"{split}{i}.png")
    return root


@pytest.fixture
def make_trainer(image_root, tiny_weights, tmp_path):
    """Function (method, config stem, KEY VALUE …, out=run folder, folder=of YAML) -> trainer: 2 epochs, batches of 4, fp32."""

    def make(method, stem, *pairs, out="run", folder=None):
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        cfg.merge_from_file(str(PROJECT / "configs" / "trainers" / (folder or method) / f"{stem}.yaml"))
        usual = {
            "DATASET.NAME": "ImageFolder", "DATASET.ROOT": str(image_root), "DATASET.FOLDER": "mine", "SEED": 1,
            "TRAINER.NAME": method, "MODEL.BACKBONE.PATH": str(tiny_weights), "INPUT.SIZE": (32, 32),
            "DATALOADER.NUM_WORKERS": 0, "DATALOADER.TRAIN_X.BATCH_SIZE": 4, "OPTIM.MAX_EPOCH": 2, "USE_CUDA": False,
            "OUTPUT_DIR": str(tmp_path / out),
        }  # fmt: skip
        for key, value in usual.items():
            cfg.merge_from_list([key, value])
        cfg.merge_from_list([*TINY.get(method, ()), *pairs])
        cfg.freeze()
        torch.manual_seed(0)
        return build_trainer(cfg)

    return make
