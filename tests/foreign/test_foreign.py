"""Repositories in foreign/: written here in small, with what real ones do, and run by train.py."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = '''"""Small: git clone https://example.org/small foreign/small"""

TRAINERS = {"Small": "trainers.small", "CoOp": "trainers.coop", "Loop": "trainers.small", "Needy": "trainers.needy"}


def add_arguments(parser):
    parser.add_argument("--lambda_value", type=float, default=1.0)


def extend_cfg(cfg, args):
    from foreign.small import train

    train.args = args
    train.extend_cfg(cfg)


def after_merge(cfg, args):
    from foreign.small.trainers.constants import computed

    cfg.merge_from_list(computed(cfg.DATASET.NAME))


def load_model(load, trainer, directory, epoch):
    load(directory, trainer.cfg, epoch=epoch)
'''
TRAIN = """
import datasets.oxford_pets
import trainers.coop
from yacs.config import CfgNode as CN


def extend_cfg(cfg):
    cfg.TRAINER.COOP = CN(dict(N_CTX=16, CTX_INIT=False, W=args.lambda_value))
    cfg.TRAINER.SMALL = CN(dict(DEPTH=3))
"""
TRAINER = """
import json
import pickle
from pkg_resources import packaging
import torch
from dassl.engine import TRAINER_REGISTRY, SimpleTrainer, TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from clip import clip
from utils.logger import print
from datasets.own_templates import TEMPLATES
from .coop import load_clip_to_cpu


@TRAINER_REGISTRY.register()
class Small(TrainerX):
    def build_model(self):
        from trainers.constants import computed  # an import while it runs
        cfg = self.cfg
        assert packaging.version.parse("1.0") and computed("") == []
        print("words", json.load(open("gpt_file/words.json")), TEMPLATES, clip.NAME, load_clip_to_cpu())
        folder = self.dm.dataset.split_fewshot_dir
        sample = pickle.load(open(f"{folder}/shot_2-seed_1.pkl", "rb"))
        print("sample", len(sample["train"]), type(sample["train"][0]).__name__)
        print("settings", cfg.TRAINER.NAME, cfg.TRAINER.COOP.W, cfg.TRAINER.SMALL.DEPTH, cfg.OPTIM.MAX_EPOCH)
        self.model = torch.nn.Linear(3, self.num_classes)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("small", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        loss = torch.nn.functional.cross_entropy(self.model(batch["img"].mean(dim=(2, 3))), batch["label"])
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}

    def model_inference(self, images):
        return self.model(images.mean(dim=(2, 3)))

    def load_model(self, directory, cfg, epoch=None):
        print("its own load_model", cfg.TRAINER.SMALL.DEPTH)
        super().load_model(directory, epoch)


@TRAINER_REGISTRY.register()
class Loop(Small):
    def train(self):
        raise KeyboardInterrupt
"""
FILES = {
    "train.py": TRAIN,
    "trainers/__init__.py": "",
    "trainers/small.py": TRAINER,
    "trainers/needy.py": "import plotnine\n",
    "trainers/constants.py": """
def computed(name):
    return ["OPTIM.MAX_EPOCH", 1, "TRAINER.SMALL.DEPTH", 12] if name else []
""",
    "trainers/coop.py": """
from dassl.engine import TRAINER_REGISTRY, TrainerX


@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    pass


def load_clip_to_cpu():
    return "their own coop.py"
""",
    "clip/__init__.py": "",
    "clip/clip.py": "NAME = 'their own clip'\n",
    "utils/logger.py": "import builtins\n\n\ndef print(*args):\n    builtins.print(*args)\n",  # no __init__.py
    "datasets/__init__.py": "raise AssertionError('ours has these')\n",
    "datasets/oxford_pets.py": "raise AssertionError('ours has it')\n",
    "gpt_file/words.json": '"read beside the repository"',
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project's code, with a small repository in foreign/ and a data set of its own."""
    root = tmp_path_factory.mktemp("project")
    for name in ("basics", "dassl", "datasets", "learning", "prompting", "inference", "trainers", "templates", "configs"):
        (root / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "train.py", root)
    foreign = root / "foreign"
    foreign.mkdir()
    for file in ("__init__.py", "importing.py"):
        shutil.copy(PROJECT / "foreign" / file, foreign)
    (foreign / "small_settings.py").write_text(SETTINGS)
    (foreign / "twin_settings.py").write_text('"""Twin"""\nTRAINERS = {"Small": "trainers.small"}\n')
    for file, text in {**FILES, "datasets/own_templates.py": "TEMPLATES = ['of its own']\n"}.items():
        path = foreign / "small" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (foreign / "small" / "datasets" / "__init__.py").write_text("")
    for c, name in enumerate(("cat", "dog")):
        for split, count in (("train", 3), ("test", 2)):
            folder = root / "data" / "mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (200 * c, 90, 60 * i)).save(folder / f"{i}.png")
    return root


SETTING = [
    "DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "mine", "DATASET.NUM_SHOTS", "2", "INPUT.SIZE", "(32, 32)",
    "DATALOADER.NUM_WORKERS", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", "2",
]  # fmt: skip


def python(project, *words):
    """Python in the copy's data folder; (exit status, stdout, stderr)."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(project)}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=project / "data", env=env)
    return done.returncode, done.stdout, done.stderr


def run(project, *words, out="run"):
    """`python train.py` in the copy."""
    usual = ["--root", str(project / "data"), "--seed", "1", "--output-dir", str(project / out)]
    return python(project, str(project / "train.py"), *usual, *words, *SETTING)


def test_a_repository_runs_as_in_its_own_folder(project):
    status, said, errors = run(project, "--trainer", "small/Small", "--lambda_value", "0.25", out="small")
    assert status == 0, errors
    assert "words read beside the repository ['of its own'] their own clip their own coop.py" in said
    assert "settings Small 0.25 12 1" in said, "what setup_cfg computes, and an option of its own"
    assert "sample 4 Datum" in said, "the few-shot cache is there as the pickle that published code opens"
    results = json.loads((project / "small" / "results.json").read_text())
    assert results["status"] == "finished" and results["trainer"] == "Small"
    status, said, errors = run(
        project, "--trainer", "small/Small", "--eval-only", "--model-dir", str(project / "small"), out="again"
    )
    assert status == 0 and "its own load_model 12" in said, errors
    again = json.loads((project / "again" / "results.json").read_text())
    assert again["metrics"]["accuracy"] == results["metrics"]["accuracy"]
    file = project / "data" / "mine" / "split_fewshot" / "shot_2-seed_1.pkl"
    sample = pickle.loads(file.read_bytes())
    assert {type(item).__module__ for item in sample["train"]} == {"dassl.data.datasets.base_dataset"}
    Image.new("RGB", (32, 32)).save(project / "data" / "mine" / "train" / "cat" / "new.png")
    status, said, errors = run(project, "--trainer", "small/Small", "--no-train", out="later")
    assert status == 0 and "drawn from another split" in said, errors
    assert pickle.loads(file.read_bytes())["split_sha256"] != sample["split_sha256"]


def test_images_are_those_of_the_clip_that_a_repository_loads(project):
    bicubic = ("INPUT.INTERPOLATION", "bicubic", "MODEL.BACKBONE.NAME", "ViT-B/16", "INPUT.TRANSFORMS", "('normalize',)")
    other = ("INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]")
    status, said, errors = run(project, "--trainer", "small/Small", *bicubic, *other, out="other")
    assert status == 2 and "INPUT.PIXEL_MEAN [0.5, 0.5, 0.5] (the model's: [0.48145466, 0.4578275, 0.40821073])" in errors
    status, said, errors = run(project, "--trainer", "small/Small", *bicubic, *other, "INPUT.PREPROCESS", "yaml", out="meant")
    assert status == 0 and "WARNING: INPUT.PREPROCESS yaml: INPUT.PIXEL_MEAN [0.5, 0.5, 0.5]" in said, errors
    status, said, errors = run(project, "--trainer", "small/Small", *bicubic, "MODEL.BACKBONE.ACTIVATION", "gelu", out="own")
    assert status == 0 and "Note: MODEL.BACKBONE.ACTIVATION has no effect here: Small loads CLIP itself" in said, errors
    used = json.loads((project / "own" / "results.json").read_text())["config"]["INPUT"]
    assert used["PIXEL_MEAN"] == [0.48145466, 0.4578275, 0.40821073], "what nothing sets is the model's"


def test_our_method_of_the_same_name_is_meant_unless_the_folder_is_named(project):
    code = (
        "import train\n"
        "for name in ('CoOp', 'small/CoOp'):\n"
        "    words = ['--trainer', name]\n"
        "    args = train.build_parser(train.foreign_repository(words)).parse_args(words)\n"
        "    cfg = train.setup_cfg(args)\n"
        "    from dassl.engine import TRAINER_REGISTRY\n"
        "    print(cfg.TRAINER.NAME, TRAINER_REGISTRY.get('CoOp').__module__, sorted(cfg.TRAINER.COOP))\n"
    )
    _, said, errors = python(project, "-c", code)
    ours, theirs = said.splitlines()
    assert ours.startswith("CoOp trainers.coop") and "'TAU'" in ours, errors
    assert theirs == "CoOp foreign.small.trainers.coop ['CTX_INIT', 'N_CTX', 'W']"


ERRORS = {
    "--trainer Small": "write --trainer small/Small or --trainer twin/Small",
    "--trainer small/Smal": "has the trainers Small, CoOp, Loop, Needy",
    "--trainer smal/Small": "there is no foreign/smal_settings.py; there are small, twin",
    "--trainer twin/Small": "foreign/twin, which doesn't exist: Twin",
    "--trainer CoOp --lambda_value 1": "unrecognized arguments: --lambda_value",
    "--trainer small/Needy": "`make venv` doesn't install it",
}


def test_errors_are_one_line(project):
    code = f"import train\nfor words in {list(ERRORS)}:\n    print(train.main(words.split()), flush=True)\n"
    _, said, errors = python(project, "-c", code)
    assert [word for word in said.split() if word != "starting"] == ["2"] * len(ERRORS), errors
    for line, message in zip(errors.strip().splitlines(), ERRORS.values(), strict=True):
        assert line.startswith("error: ") and message in line


def test_a_training_loop_of_its_own_isnt_promised_to_resume(project):
    status, said, errors = run(project, "--trainer", "Loop", out="loop")
    assert status == 130 and "Loop has a training loop of its own: an interrupted run starts anew" in said
    assert errors == "interrupted\n"


def test_our_settings_files_name_hooks_that_are_called():
    import foreign

    assert len(foreign.names()) >= 14
    for name in foreign.names():
        module = foreign.settings(name)
        assert module.TRAINERS and "git clone https://github.com/" in module.__doc__


def test_a_settings_file_with_a_function_that_nobody_calls(monkeypatch, tmp_path):
    import foreign

    (tmp_path / "odd_settings.py").write_text("TRAINERS = {'Odd': 'odd'}\n\n\ndef setup_cfg(args):\n    pass\n")
    monkeypatch.setattr(foreign, "__path__", [str(tmp_path)])
    with pytest.raises(Exception, match="setup_cfg is never called"):
        foreign.settings("odd")


def test_a_trainer_file_beside_ours_changes_no_section_of_ours(monkeypatch):
    from yacs.config import CfgNode as CN

    import trainers
    from dassl.config import get_cfg_default
    from dassl.engine import TRAINER_REGISTRY, TrainerX

    class TCP(TrainerX):
        @staticmethod
        def extend_cfg(cfg):
            cfg.TRAINER.COOP = CN(dict(N_CTX=4, W=1.0))
            cfg.TRAINER.TCP = CN(dict(DEPTH=8))
            cfg.OPTIM.LR = 5.0

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "TCP", TCP)
    plain, for_ours, for_it = (get_cfg_default() for _ in range(3))
    trainers.extend_cfg(for_ours, "CoOp")
    trainers.extend_cfg(for_it, "TCP")
    monkeypatch.delitem(TRAINER_REGISTRY._obj_map, "TCP")
    trainers.extend_cfg(plain)
    assert for_ours.TRAINER.COOP == plain.TRAINER.COOP and for_ours.OPTIM == plain.OPTIM and for_ours.TRAINER.TCP.DEPTH == 8
    assert dict(for_it.TRAINER.COOP) == {"N_CTX": 4, "W": 1.0} and for_it.OPTIM.LR == 5.0


@pytest.mark.parametrize("there", [True, False])
def test_packaging_is_in_pkg_resources_whatever_setuptools_has(there, monkeypatch, tmp_path):
    """setuptools 70 has the module without it, the newest has no such module."""
    from foreign.importing import _import_of, _roots

    monkeypatch.setitem(_roots, "small", tmp_path)
    module = ModuleType("pkg_resources")
    module.resource_filename = "of setuptools"
    monkeypatch.setitem(sys.modules, "pkg_resources", module if there else None)
    found = _import_of("small")("pkg_resources", fromlist=("packaging",))
    assert found.packaging.version.parse("1.10") > found.packaging.version.parse("1.9")
    assert getattr(found, "resource_filename", None) == ("of setuptools" if there else None)
    assert not hasattr(module, "packaging")  # setuptools' own module stays as it is
