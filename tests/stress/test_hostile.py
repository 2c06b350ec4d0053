"""Files made to harm: nothing in them is run, and nothing in them steers the terminal."""

import json
import os
import shutil
import zipfile

import pytest
import torch

import datasets  # noqa: F401  (registers)
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from dassl.utils import UserError, load_checkpoint, printable, safe_pickle_load
from datasets.fewshot import PICKLED_DATUM
from datasets.splits import Item
from inference.predictor import Batch
from prompting import read_groups
from tests.stress import world

RED, TITLE, CLEAR = "\x1b[31m", "\x1b]0;owned\x07", "\x1b[2J"
ESCAPES = RED + TITLE + CLEAR


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def plain(text):
    """Whether a terminal may be given the text."""
    return printable(text) == text and "\x1b" not in text


@pytest.fixture
def ends(tmp_path):
    """Function: arguments of train.py -> its message (exit status 2); nothing that it prints has control characters."""

    def run(argv):
        process = world.Process(argv, tmp_path / "log")
        status, message = process.wait()
        assert status == 2 and "Traceback" not in process.errors(), process.errors()
        assert plain(process.printed()) and plain(process.errors())
        return message

    return run


def test_checkpoint_that_runs_a_command(data, tmp_path, ends, said):
    target, out = tmp_path / "PWNED", tmp_path / "run"
    folder = out / "prompt_learner"
    folder.mkdir(parents=True)
    torch.save({"state_dict": {}, "epoch": 4, "x": Hostile(target)}, folder / "model.pth.tar-4")
    message = ends(world.command("CoOp", data, out))
    assert "refused" in said("checkpoint that runs a command", message) and not target.exists()


def test_few_shot_pickle_that_runs_a_command(data, tmp_path, ends, said):
    import pickle

    target = tmp_path / "PWNED"
    (data / "mine" / "split_fewshot").mkdir()
    pickled = pickle.dumps({"train": [Hostile(target)], "val": []})
    (data / "mine" / "split_fewshot" / "shot_2-seed_1.pkl").write_bytes(pickled)
    message = ends(world.command("CoOp", data, tmp_path / "run"))
    assert "refused" in said("few-shot pickle that runs a command", message) and not target.exists()


def test_pickles_that_fill_the_memory_or_change_classes(tmp_path, said):
    path = tmp_path / "shot_2-seed_1.pkl"
    path.write_bytes(b"\x80\x04]r\xff\xff\xff\xff.")  # "remember this list as number 4,294,967,295"
    assert safe_pickle_load(str(path), PICKLED_DATUM) == []
    path.write_bytes(b"\x80\x02cdassl.data.datasets.base_dataset\nDatum\nN}U\x05labelK\x07s\x86b.")  # Datum.label = 7
    with pytest.raises(UserError) as error:
        safe_pickle_load(str(path), PICKLED_DATUM)
    assert "attributes of Item" in said("pickle that changes a class", f"error: {error.value}")
    assert isinstance(Item.label, property)


def test_checkpoint_that_unpacks_to_a_full_memory(tmp_path, said):
    path = tmp_path / "model.pth.tar-1"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"x" * 10**7)
    with pytest.raises(UserError) as error:
        load_checkpoint(str(path))
    assert "compressed" in said("checkpoint that unpacks to a full memory", f"error: {error.value}")


@pytest.mark.parametrize("content, words", [
    ("SEED: !!python/object/apply:os.system ['touch {target}']\n", "could not determine a constructor for the tag"),
    ("SEED: !!python/name:os.system\n", "could not determine a constructor for the tag"),
    ("OPTIM: &o\n  LR: 1.0\nINPUT: *o\n", "references (*) are not allowed"),
])  # fmt: skip
def test_yaml(content, words, tmp_path, said):
    path, target = tmp_path / "settings.yaml", tmp_path / "PWNED"
    path.write_text(content.replace("{target}", str(target)))
    with pytest.raises(UserError) as error:
        get_cfg_default().merge_from_file(str(path))
    assert words in said(f"YAML: {content.splitlines()[0]}".replace(str(target), "x"), f"error: {error.value}")
    assert not target.exists()


def test_class_folder_with_terminal_escapes(data, tmp_path, ends, said):
    for part in ("train", "val", "test"):
        shutil.copytree(data / "mine" / part / "dog", data / "mine" / part / f"dog{ESCAPES}")
    message = ends(world.command("CoOp", data, tmp_path / "run"))
    assert "control character in the class name" in said("class folder with terminal escapes", message)


@pytest.mark.parametrize("entry, words", [
    (["a.png", 0, f"cat{RED}"], "control character in the class name"),
    ([f"{CLEAR}.png", 0, "cat"], "images of the split are missing"),
    ([f"../{CLEAR}.png", 0, "cat"], "must be relative"),
    (["a.png", f"{TITLE}", "cat"], "the label must be an integer"),
    (["a.png", 0, "cat\ud800"], "control character in the class name"),
], ids=range(5))  # fmt: skip
def test_split_file_with_terminal_escapes(entry, words, tmp_path, said, capsys):
    folder = tmp_path / "mine" / "cat"
    folder.mkdir(parents=True)
    (tmp_path / "mine" / "a.png").write_bytes(b"")
    (tmp_path / "mine" / "split.json").write_text(json.dumps({"train": [entry], "val": [], "test": [entry]}))
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.merge_from_list(["DATASET.NAME", "ImageFolder", "DATASET.ROOT", str(tmp_path), "DATASET.FOLDER", "mine"])
    with pytest.raises(UserError) as error:
        build_dataset(cfg)
    assert words in said("split file with terminal escapes", f"error: {error.value}") and plain(str(error.value))
    assert plain(capsys.readouterr().out)


@pytest.mark.parametrize("content", [f"a {RED} photo of a {{}}.\n", f"# group{TITLE}\na photo of a {{}}.\n",
                                     f"{CLEAR}{{}}{{}}\n"], ids=range(3))  # fmt: skip
def test_template_file_with_terminal_escapes(content, tmp_path, said):
    path = tmp_path / "templates.txt"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_groups(path)
    assert "control character" in said("template file with terminal escapes", f"error: {error.value}")
    assert plain(str(error.value))


def test_checkpoint_with_terminal_escapes_in_its_templates(data, tmp_path, ends, said):
    """MoCoOp prints the template groups that a checkpoint carries."""
    folder = tmp_path / "run" / "prompt_learner"
    folder.mkdir(parents=True)
    groups = [[f"group{ESCAPES}", [f"a {CLEAR} {{}}."]]]
    torch.save({"state_dict": {}, "epoch": 4, "extras": {"template_groups": groups}}, folder / "model.pth.tar-4")
    argv = world.command("MoCoOp", data, tmp_path / "eval")
    message = ends([*argv[:2], "--eval-only", "--model-dir", str(tmp_path / "run"), *argv[2:]])
    assert "control character" in said("checkpoint with terminal escapes", message)


def test_checkpoint_that_names_escapes_as_a_class(tmp_path, said):
    path = tmp_path / "model.pth.tar-1"
    path.write_bytes(f"c{'os' + RED}\nsystem{TITLE}\n.".encode())
    with pytest.raises(UserError) as error:
        load_checkpoint(str(path))
    assert plain(said("pickle that names terminal escapes", f"error: {error.value}"))


def test_prediction_with_hostile_names(tmp_path, said, capsys, monkeypatch):
    """Class names in results.json, and templates in a checkpoint, of a run that someone else sent."""
    import predict

    name = f"cat{ESCAPES}"

    class Sent:
        classnames = [name]
        upright, threshold, temperature = True, None, 1.0
        described = predict.Predictor.described

        def __init__(self, *args):
            pass

        def batches(self, images):
            yield Batch(list(images), [0], torch.zeros(1, 1), [{}], 0, [(f"x{ESCAPES}.png", f"cannot read x{ESCAPES}.png")])

    monkeypatch.setattr(predict, "Predictor", Sent)
    sent = {"status": "finished", "config": {"A": 1}, "classnames": [name], "trainer": f"CoOp{ESCAPES}", "dataset": "x"}
    (tmp_path / "results.json").write_text(json.dumps(sent))
    (tmp_path / "x.png").touch()
    assert predict.main(["--model-dir", str(tmp_path), str(tmp_path / "x.png")]) == predict.EXIT_UNREADABLE
    shown = capsys.readouterr()
    assert plain(said("class name of a run that was sent", shown.out.strip().split("\n")[-1]))
    for line in shown.err.splitlines():
        assert plain(line)
