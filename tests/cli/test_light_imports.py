"""A run imports what it needs: what it doesn't need, and what takes long to import, isn't there at its end."""

import json
import os
import pathlib
import pty
import subprocess
import sys

import pytest
import torch

from basics import UserError
from dassl.config import known
from tests.golden.tiny_clip import state_dict

PROJECT = pathlib.Path(__file__).parents[2]
HEAVY = ("timm", "torch._dynamo", "sympy", "torchvision.models", "matplotlib", "pandas", "sklearn", "tensorboard", "ray", "scipy",
         "open_clip", "transformers", "huggingface_hub")  # fmt: skip
RUN = f"""
import json, sys
import train
status = train.main(sys.argv[1:])
print(json.dumps([status, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


@pytest.fixture
def imported(arguments, tmp_path):
    """Function: as `arguments` -> those of HEAVY that the run has imported."""

    def run(*pairs, **options):
        words = arguments(*pairs, **options)
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, env=environment, cwd=PROJECT)
        assert done.returncode == 0, done.stderr[-3000:]
        status, found = json.loads(done.stdout.splitlines()[-1])
        assert status == 0, done.stderr[-3000:]
        return found

    return run


@pytest.mark.parametrize("kind", ["vit", "rn"])
def test_training_and_evaluation(kind, imported, miniature, tmp_path):
    weights = tmp_path / f"{kind}.pt"
    torch.save(state_dict(f"tiny_clip_{kind}"), weights)
    pairs = ("MODEL.BACKBONE.PATH", weights, "MODEL.BACKBONE.NAME", "ViT-B/16" if kind == "vit" else "RN50")
    pairs = (*map(str, pairs), "INPUT.SIZE", "(32, 32)" if kind == "vit" else "(64, 64)")
    assert imported(*pairs) == ["tensorboard"]  # whose log a training run writes
    trained = {"model_dir": tmp_path / "run", "eval_only": True, "output_dir": tmp_path / "test"}
    for _ in range(2):  # the second time features are there, and all that is kept from run to run
        assert imported(*pairs, **trained) == []


@pytest.mark.parametrize(
    "pairs, named",
    [
        (("TRAINER.COOP.N_CTXX", "4"), "TRAINER.COOP.N_CTX"),
        (("DATASETS.NUM_SHOTS", "4"), "DATASET.NUM_SHOTS"),
        (("OPTIM.LR", "fast"), "OPTIM.LR"),
        (("OPTIM.LR", "-1.0"), "OPTIM.LR"),
        (("TEST.SPLIT", "tset"), "did you mean test"),
    ],
)
def test_what_is_mistyped_is_told_before_torch_is_imported(pairs, named, arguments, monkeypatch):
    code = "import sys, train; status = train.main(sys.argv[1:]); sys.exit(status + ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *arguments(*pairs)], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2 and named in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_where_methods_have_changed_the_run_itself_finds_out(monkeypatch):
    def merge(cfg):
        cfg.merge_from_list(["TRAINER.COOP.OWN", "1"])

    with pytest.raises(UserError, match="TRAINER.COOP.OWN"):
        known.check_at_once(merge)
    monkeypatch.setattr(known, "declarations", lambda: "another hash")
    known.check_at_once(merge)
    monkeypatch.setattr(known, "FILE", "reproduce/nothing.json")
    known.check_at_once(merge)


def test_methods_keys_take_any_value_at_first():
    known.check_at_once(lambda cfg: cfg.merge_from_list(["TRAINER.COOP.PREC", "3", "TRAINER.COOP.N_CTX", "many"]))


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").is_file(), reason="no /proc")
def test_a_terminal_shows_at_once_that_a_run_starts(arguments):
    ours, theirs = pty.openpty()
    words = [sys.executable, str(PROJECT / "train.py"), *arguments()]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs, cwd=PROJECT) as run:
        os.close(theirs)
        shown = os.read(ours, 100)
        imported = "libtorch" in pathlib.Path(f"/proc/{run.pid}/maps").read_text()
        run.kill()
    os.close(ours)
    assert shown.strip() == b"starting" and not imported
