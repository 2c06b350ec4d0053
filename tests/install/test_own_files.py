"""A user's own files where the project is installed: in folders of the current one, written as in a checkout."""

import re

from basics import home

METHOD = re.search(r"```python\n(# trainers/.*?)```", (home.PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
DATASET = """
import datasets.splits
from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.digits import Digits
from .not_registered import NAME

@DATASET_REGISTRY.register()
class Mine(Digits):
    assert Datum and datasets.splits and NAME
"""
SETTINGS = "_BASE_: ../CoOp/builtin.yaml\nTRAINER:\n  SUFFIX:\n    N_CTX: 3\n"


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def train(installed, folder, *words):
    return installed.run("-m", "mocoop", "train", "--root", "data", *words, cwd=folder)


def test_methods_data_sets_and_settings_of_the_current_folder(installed, tmp_path):
    write(tmp_path, {
        "trainers/suffix.py": METHOD,
        "trainers/__init__.py": "raise RuntimeError('not imported')",
        "datasets/mine.py": DATASET,
        "datasets/not_registered.py": "NAME = 'helper'",
        "datasets/script.py": "raise SystemExit('a script that is no data set file')",
        "configs/datasets/mine.yaml": "DATASET:\n  NAME: Mine\n",
        "configs/trainers/SuffixCoOp/builtin.yaml": SETTINGS,
    })  # fmt: skip
    done = installed.run(
        "-m", "mocoop", "reproduce", "run", "base2new_train", "mine", "1", "OPTIM.MAX_EPOCH", "1",
        cwd=tmp_path, TRAINER="SuffixCoOp", CFG="builtin",
    )  # fmt: skip
    assert done.returncode == 0 and "left out" not in done.stderr, done
    assert list(tmp_path.glob("output/base2new/train_base/mine/shots_16/SuffixCoOp/builtin/seed1/results.json"))


def test_a_bad_file_is_named_and_stops_only_what_needs_it(installed, tmp_path):
    write(tmp_path, {
        "trainers/half.py": "from dassl.engine import TRAINER_REGISTRY\nTRAINER_REGISTRY = (\n",
        "trainers/coop.py": "from dassl.engine import TRAINER_REGISTRY\n",
    })  # fmt: skip
    files = ["--dataset-config-file", "configs/datasets/digits.yaml", "--config-file", "configs/trainers/CoOp/builtin.yaml"]
    fine = installed.run("-m", "mocoop", "keys", "momentum", cwd=tmp_path)
    assert fine.returncode == 0 and "OPTIM.MOMENTUM" in fine.stdout, fine
    notes = fine.stderr.splitlines()
    assert len(notes) == 2 and "coop.py is left out: mocoop has a file of its own with that name" in notes[0]
    assert "trainers/half.py is left out: SyntaxError" in notes[1] and "line 2" in notes[1]
    needs = train(installed, tmp_path, "--trainer", "Half", *files)
    assert needs.returncode == 2 and 'unknown trainer "Half"' in needs.stderr and "Traceback" not in needs.stderr
    assert "trainers/half.py is left out" in needs.stderr.splitlines()[-1]


def test_a_repository_written_for_dassl(installed, tmp_path):
    """Its own modules, its settings file, and ``dassl`` inside it."""
    write(tmp_path, {
        "foreign/tiny_settings.py": "TRAINERS = {'Tiny': 'trainers.tiny'}\n\n\ndef extend_cfg(cfg, args):\n"
        "    from foreign.tiny import keys\n\n    keys.extend(cfg)\n",
        "foreign/tiny/keys.py": "def extend(cfg):\n    from dassl.config import get_cfg_default\n\n    assert get_cfg_default\n",
        "foreign/tiny/trainers/tiny.py": "import dassl.utils\nfrom dassl.engine import TRAINER_REGISTRY, TrainerX\n"
        "from keys import extend\n\n\n@TRAINER_REGISTRY.register()\nclass Tiny(TrainerX):\n"
        "    def build_model(self):\n        assert extend and dassl.utils\n        print('its own model')\n",
    })  # fmt: skip
    done = train(
        installed, tmp_path, "--trainer", "Tiny", "--dataset-config-file", "configs/datasets/digits.yaml", "--no-train"
    )  # fmt: skip
    assert done.returncode == 0 and "its own model" in done.stdout, done
