"""A run imports what it needs: what it doesn't need, and what takes long to import, isn't there at its end."""

import json
import os
import pathlib
import pty
import subprocess
import sys

import pytest
import torch
from packaging.version import Version

from basics import UserError
from dassl.config import known
from tests.golden.tiny_clip import state_dict

PROJECT = pathlib.Path(__file__).parents[2]
HEAVY = ("sympy", "timm", "torch._dynamo", "torchvision.models", "matplotlib", "pandas", "sklearn", "tensorboard", "ray", "scipy",
         "open_clip", "transformers", "huggingface_hub")  # fmt: skip
TORCH_WITH_SYMPY = Version(torch.__version__) < Version("2.9")  # 2.6 imports it with torchvision; between them wasn't looked
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
        return found[TORCH_WITH_SYMPY:]

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
        (("TRAINER.COOP.N_CTX", "0"), "TRAINER.COOP.N_CTX 0: must be a whole number from 1 to 1000"),
        (("TRAINER.COOP.N_CTX", "many"), "TRAINER.COOP.N_CTX takes a value of type int"),
        (("TRAINER.COOP.PREC", "fp33"), 'TRAINER.COOP.PREC "fp33": must be one of fp32, fp16, amp, bf16 (did you mean fp32?)'),
        (("TRAINER.MMRL.ALPHA", "1.5"), "TRAINER.MMRL.ALPHA 1.5: must be a number from 0 to 1"),
        (("TRAINER.MOCOOP.TEXT_LOSS", "al"), "TRAINER.MOCOOP.TEXT_LOSS"),
        (("TRAINER.NAME", "CoOpp"), 'unknown trainer "CoOpp" (did you mean CoOp?); known: ADAPTER'),
        (("DATASET.NAME", "EuroSAD"), 'unknown dataset "EuroSAD" (did you mean EuroSAT?)'),
        (("DATASET.ROOT", "/nowhere/data"), "the data folder /nowhere/data itself doesn't exist"),
        (("--root", "/nowhere/data"), "the data folder /nowhere/data itself doesn't exist"),
        (("--trainer", "Mocoop"), 'unknown trainer "Mocoop" (did you mean MoCoOp?)'),
        (
            ("--config-file", "configs/trainers/CoOp/vit_b16.yml"),
            "--config-file: no such file: configs/trainers/CoOp/vit_b16.yml",
        ),
        (
            ("--dataset-config-file", "configs/datasets/eurosta.yaml"),
            "the nearest existing file is configs/datasets/eurosat.yaml",
        ),
    ],
)
def test_what_is_mistyped_is_told_before_torch_is_imported(pairs, named, arguments, monkeypatch):
    option, value = pairs
    words = arguments(**{option[2:].replace("-", "_"): value}) if option.startswith("--") else arguments(*pairs)
    code = (
        "import resource, sys, train; status = train.main(sys.argv[1:]); "
        "print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])); sys.exit(status + ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 2 and named in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert float(done.stdout) < 1.5  # seconds of a CPU, however busy: half of one alone, and importing torch takes more


def test_where_methods_have_changed_the_run_itself_finds_out(monkeypatch):
    def merge(cfg):
        cfg.merge_from_list(["TRAINER.COOP.OWN", "1"])

    with pytest.raises(UserError, match="TRAINER.COOP.OWN"):
        known.check_at_once(merge)
    monkeypatch.setattr(known, "declarations", lambda: "another hash")
    known.check_at_once(merge)
    monkeypatch.setattr(known, "FILE", "reproduce/nothing.json")
    known.check_at_once(merge)


def test_what_is_said_early_is_what_the_run_says():
    """Of every key of every method: for values at and past its limits, and of other types."""
    import trainers
    from dassl.config import get_cfg_default
    from dassl.config.schema import keys_of
    from reproduce import defaults

    whole, light = get_cfg_default(), get_cfg_default()
    trainers.extend_cfg(whole)
    content = defaults.read()
    known.add_keys(light, content["keys"], content["ranges"])
    early, compared = {name: k for name, k, _ in keys_of(light)}, 0
    for name, declared, value in keys_of(whole):
        assert name in early, name
        values = [value, -1, 0, 1, 10**9, 0.5, "", "x", None, False, True, *declared.choices, *declared.also]
        for tried in [*values, *((v,) * n for v in values for n in (0, 1, 2, 3) if declared.is_sequence)]:
            said = declared.complaint(tried)
            assert early[name].complaint(tried) == said or (declared.check and not early[name].complaint(tried)), (name, tried)
            compared += bool(said)
    assert compared > 1000


def test_a_method_that_only_a_file_names_is_left_to_the_run(tmp_path, monkeypatch):
    """A file of the user's own may register it, in whatever way."""
    from basics import home

    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "mine.py").write_text("name = 'Mine'")
    named = lambda name: known.check_at_once(lambda cfg: cfg.merge_from_list(["TRAINER.NAME", name]))  # noqa: E731
    with pytest.raises(UserError, match='unknown trainer "Mine"'):
        named("Mine")
    monkeypatch.setattr(home, "own_folder", lambda: tmp_path)
    assert named("Mine").TRAINER.NAME == "Mine"


def test_a_changed_helper_is_a_changed_declaration(tmp_path, monkeypatch):
    """What an ``extend_cfg`` uses of its own file decides ranges, too; the rest of the file doesn't."""
    from basics import home

    file = tmp_path / "trainers" / "mine.py"
    file.parent.mkdir()
    monkeypatch.setattr(home, "own_folder", lambda: tmp_path)
    text = "MOST = 4\ndef keys():\n    return MOST\ndef other():\n    return 1\n"
    text += "class A:\n    def extend_cfg(cfg):\n        cfg.A = keys()\n"
    hashes = []
    for changed in (text, text.replace("MOST = 4", "MOST = 5"), text.replace("return 1", "return 2")):
        file.write_text(changed)
        hashes.append(known.declarations())
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_changed_helper_of_another_file_is_a_changed_declaration(tmp_path, monkeypatch):
    """Choices that a method's file imports from learning/, by way of a second file of trainers/."""
    from basics import home

    for folder in ("trainers", "learning"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(home, "own_folder", lambda: tmp_path)
    (tmp_path / "trainers" / "mine.py").write_text(
        "from .others import choices\nclass A:\n    def extend_cfg(cfg):\n        cfg.A = choices\n"
    )
    (tmp_path / "trainers" / "others.py").write_text("from learning.words import WORDS as choices\n")
    hashes = []
    for text in ("WORDS = 4\nOTHER = 1\n", "WORDS = 5\nOTHER = 1\n", "WORDS = 4\nOTHER = 2\n"):
        (tmp_path / "learning" / "words.py").write_text(text)
        hashes.append(known.declarations())
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").is_file(), reason="no /proc")
@pytest.mark.parametrize("terminal", [True, False])
def test_one_sees_at_once_that_a_run_starts(arguments, terminal):
    """On a terminal and in a log file, before PyTorch is imported."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    words = [sys.executable, str(PROJECT / "train.py"), *arguments()]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL if terminal else theirs, stderr=theirs, cwd=PROJECT) as run:
        os.close(theirs)
        shown = os.read(ours, 100)
        imported = "libtorch" in pathlib.Path(f"/proc/{run.pid}/maps").read_text()
        run.kill()
    os.close(ours)
    assert shown.strip() == b"starting" and not imported


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").is_file(), reason="no /proc")
@pytest.mark.parametrize("command", ["inference.export", "inference.distil", "predict", "reproduce", "prompting.group_templates"])
def test_other_commands_say_at_once_what_they_do(command, tmp_path):
    (tmp_path / "results.json").write_text(
        json.dumps({"status": "finished", "config": {}, "classnames": ["a"], "trainer": "CoOp"})
    )
    words = {
        "inference.export": [str(tmp_path), "--output", str(tmp_path / "out")],
        "inference.distil": [str(tmp_path)],
        "predict": ["--model-dir", str(tmp_path), str(PROJECT / "models")],
        "reproduce": ["tune", "CoOp", "letters"],
        "prompting.group_templates": [
            "--templates",
            str(PROJECT / "templates" / "default.txt"),
            "--groups",
            "3",
            "--out",
            str(tmp_path / "groups.txt"),
        ],
    }[command]
    ours, theirs = os.pipe()
    run = [sys.executable, "-m", command, *words]
    with subprocess.Popen(run, stdout=theirs, stderr=theirs, cwd=PROJECT) as process:
        os.close(theirs)
        shown = os.read(ours, 200).decode()
        imported = "libtorch" in pathlib.Path(f"/proc/{process.pid}/maps").read_text()
        process.kill()
    os.close(ours)
    assert shown.startswith(("Loading ", "tune CoOp letters: starting")) and not imported, shown
