"""Images, configurations and trainers of tiny runs."""

import pathlib

import numpy as np
import pytest
import tiny_method  # noqa: F401  (registers TinyPNG and TinyCoOp)
from PIL import Image

from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import set_random_seed


@pytest.fixture
def golden_file(golden_dir):
    """Function that returns the path of a file of the golden folder; tests/golden has those that a folder lacks."""

    def path(name):
        own = pathlib.Path(__file__).parent.parent / "golden" / name
        return golden_dir / name if (golden_dir / name).exists() else own

    return path


@pytest.fixture(scope="session")
def image_root(tmp_path_factory):
    """Folder with the images of TinyPNG: noise, tinted by class."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, per_class in (("train", 4), ("val", 2), ("test", 5)):
        for label in range(3):
            for i in range(per_class):
                pixels = rng.integers(0, 150, (12, 14, 3), dtype=np.uint8)
                pixels[..., label] += 60
                Image.fromarray(pixels).save(root / f"{split}_{label}_{i}.png")
    return root


@pytest.fixture
def make_cfg(image_root, tmp_path):
    """Function that returns the configuration of a tiny run; arguments: KEY VALUE pairs."""

    def make(*opts):
        cfg = get_cfg_default()
        cfg.merge_from_list(
            ["DATASET.NAME", "TinyPNG", "DATASET.ROOT", str(image_root), "TRAINER.NAME", "TinyCoOp", "SEED", 1,
             "OUTPUT_DIR", str(tmp_path / "run"), "INPUT.SIZE", "(8, 8)", "DATALOADER.NUM_WORKERS", 0,
             "INPUT.TRANSFORMS", "('random_resized_crop', 'random_flip', 'normalize')", "USE_CUDA", False,
             "DATALOADER.TRAIN_X.BATCH_SIZE", 5, "OPTIM.NAME", "sgd", "OPTIM.LR", 0.02, "OPTIM.MAX_EPOCH", 4,
             "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant", *opts]
        )  # fmt: skip
        cfg.freeze()
        return cfg

    return make


@pytest.fixture
def make_trainer(make_cfg):
    """Function that returns a seeded trainer of a tiny run; arguments: KEY VALUE pairs."""

    def make(*opts):
        cfg = make_cfg(*opts)
        set_random_seed(max(cfg.SEED, 0))
        return build_trainer(cfg)

    return make
