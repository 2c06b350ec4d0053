"""What reproduce takes for a run's settings, without torch, is what train.py makes of the same command line."""

import json
import subprocess
import sys

import pytest

import train
from basics import home
from basics.identity import flatten
from reproduce import defaults
from reproduce.experiments import EXPERIMENTS, Selection, rows_of

OUT_OF_PROCESS = """
import json
from reproduce import defaults
print(json.dumps(defaults.current()))
"""


def test_the_file_is_current():
    """In a process of its own: other tests register methods. `python -m reproduce.defaults` makes it anew."""
    made = subprocess.run([sys.executable, "-c", OUT_OF_PROCESS], cwd=home.PROJECT, capture_output=True, text=True, check=True)
    assert json.loads(made.stdout) == defaults.read()


@pytest.mark.parametrize("recipe", ["paper", "released"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_settings_are_those_of_train(name, recipe):
    experiment = EXPERIMENTS[name]
    opts = ("OPTIM.LR", "1e-3", "TRAINER.MOCOOP.TOP_K", "1", "DATASET.SUBSAMPLE_CLASSES", "all")
    selection = Selection(experiment, experiment.datasets[:1], rows_of(experiment, recipe), (1,), recipe, opts)
    for run in selection.runs():
        args = train.build_parser().parse_args(run.words())
        assert flatten(train.setup_cfg(args, defaults.extend_cfg)) == flatten(train.setup_cfg(args)), run.label


def test_reading_finished_runs_needs_no_torch(tmp_path):
    """A finished run is there, so its settings are compared."""
    code = f"""
import json, sys
from reproduce.__main__ import main
from reproduce.experiments import EXPERIMENTS, Selection
from pathlib import Path
run = next(iter(Selection(EXPERIMENTS["table1"], ("eurosat",), EXPERIMENTS["table1"].rows[1:2], (1,)).runs()))
folder = run.directory({str(tmp_path)!r})
folder.mkdir(parents=True)
result = {{"status": "finished", "metrics": {{"accuracy": 50.0}}, "config": {{"SEED": 1}}}}
(folder / "results.json").write_text(json.dumps(result))
for words in (["table1", "--datasets", "eurosat"], ["report"], ["summarise", str(folder)]):
    assert main(words) == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home.PROJECT, capture_output=True, text=True, env={"PATH": "", "OUT": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
