"""Run folders from the command line: what another command finds there, and what it may do with it."""

import json
import os
import resource
import shutil

import pytest
import torch
from PIL import Image

import predict
import train
from dassl.engine import checkpoint

PREVIOUS = ("prompt_learner/model.pth.tar-2", "results.json", "run.json", "log.txt")


@pytest.fixture
def fails(capsys):
    """Function: argument list -> the one line with which train.py refuses it."""

    def run(argv):
        capsys.readouterr()
        assert train.main(argv) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err, err
        return err

    return run


@pytest.fixture
def finished(arguments, tmp_path):
    """Folder of a finished run of CoOp; nothing may change in it."""
    assert train.main(arguments()) == 0
    run = tmp_path / "run"
    before = {name: (run / name).read_bytes() for name in PREVIOUS}
    yield run
    assert {name: (run / name).read_bytes() for name in PREVIOUS} == before


@pytest.fixture(scope="session")
def other_weights(miniature):
    """A weight file of the same shapes, with other values."""
    state = torch.load(miniature.weights, weights_only=True)
    path = miniature.weights.with_name("other.pt")
    torch.save({**state, "text_projection": state["text_projection"] * 1.01}, path)
    return path


def test_every_other_command_is_refused_before_it_writes(fails, arguments, finished, other_weights, tmp_path):
    template = "configs/trainers/CoOp/vit_b16.yaml"
    cases = {
        "SEED 1 (now 2)": arguments(seed=2),
        "OPTIM.LR 0.002 (now 0.2)": arguments("OPTIM.LR", "0.2"),
        "DATASET.NUM_SHOTS 4 (now 1)": arguments("DATASET.NUM_SHOTS", "1"),
        "DATASET.SUBSAMPLE_CLASSES base (now new)": arguments("DATASET.SUBSAMPLE_CLASSES", "new"),
        "TRAINER.COOP.PREC": arguments("TRAINER.COOP.PREC", "fp32"),
        "TRAINER.COOP.CTX_INIT": arguments(config_file=template),
        "TRAINER.NAME CoOp (now KgCoOp)": arguments(trainer="KgCoOp"),
        "weights of CLIP": arguments("MODEL.BACKBONE.PATH", str(other_weights)),
        "OPTIM.MAX_EPOCH 2 (now 1) (it has trained 2 epochs already)": arguments("OPTIM.MAX_EPOCH", "1"),
        "did you mean OPTIM.LR": arguments("OPTIM.LRR", "1"),
        "no such folder": arguments(resume=tmp_path / "nowhere"),
        "holds a training run, whose record": arguments(eval_only=True, model_dir=finished),
        "whose record an evaluation must not": arguments(eval_only=True, fresh=True, model_dir=finished),
    }
    for message, argv in cases.items():
        if "weights of" in message or "MAX_EPOCH" in message:  # known only when all is built: the log has the attempt
            shutil.copytree(finished, tmp_path / "copy", dirs_exist_ok=True)
            argv[argv.index("--output-dir") + 1] = str(tmp_path / "copy")
        err = fails(argv)
        assert message in err, (message, err)
        if "(now" in message:
            assert "--output-dir" in err and "--fresh" in err and "old values" in err


@pytest.mark.parametrize("options, message", [
    ({"model_dir": "x"}, "--model-dir is for --eval-only"),
    ({"load_epoch": 2}, "--load-epoch says which epoch of --model-dir"),
    ({"eval_only": True, "resume": "x"}, "--resume is for training"),
    ({"eval_only": True}, "CoOp learns: --eval-only needs --model-dir"),
    ({"eval_only": True, "model_dir": "nowhere"}, "--model-dir: no such folder"),
])  # fmt: skip
def test_options_that_would_do_nothing(fails, arguments, options, message):
    assert message in fails(arguments(**options))


def test_model_dir_one_level_too_deep(fails, arguments, finished, tmp_path):
    for path in (finished / "prompt_learner", finished / "prompt_learner" / "model.pth.tar-2"):
        message = fails(arguments(eval_only=True, model_dir=path, output_dir=tmp_path / "eval"))
        assert message.endswith(f"give the run's folder, {finished}\n")


def test_no_configuration_file(fails, arguments):
    argv = arguments()
    at = argv.index("--config-file")
    assert "MODEL.BACKBONE.NAME is empty: give the method's YAML file with --config-file" in fails(argv[:at] + argv[at + 2 :])


def test_new_classes_are_evaluated_and_the_training_recorded(arguments, finished, tmp_path):
    argv = arguments("DATASET.SUBSAMPLE_CLASSES", "new", eval_only=True, model_dir=finished, output_dir=tmp_path / "new")
    assert train.main(argv) == 0
    results = json.loads((tmp_path / "new" / "results.json").read_text())
    trained = results["model"]["trained_with"]
    assert (results["subsample_classes"], trained["DATASET.SUBSAMPLE_CLASSES"]) == ("new", "base")
    assert trained["weights of CLIP"] == f"sha256 {results['weights']['state_sha256']}"
    assert results["weights"]["checked"] == "the file itself" and len(results["weights"]["sha256"]) == 64
    assert len(results["code"]["source_sha256"]) == 64 and results["versions"]["torch"] == torch.__version__


def test_a_model_belongs_to_its_weights(fails, arguments, finished, other_weights, tmp_path):
    argv = arguments("MODEL.BACKBONE.PATH", str(other_weights), eval_only=True, model_dir=finished, output_dir=tmp_path / "e")
    assert "was trained with weights of CLIP" in fails(argv)


def test_a_changed_template_file_is_another_run(fails, arguments, tmp_path):
    groups = tmp_path / "groups.txt"
    groups.write_text("a photo of a {}.\n\na picture of a {}.\n")
    recipe = {"trainer": "MoCoOp", "config_file": "configs/trainers/MoCoOp/vit_b16.yaml"}
    argv = arguments("TRAINER.MOCOOP.TEMPLATES", str(groups), **recipe)
    assert train.main(argv) == 0
    shutil.copy(groups, tmp_path / "same.txt")
    assert train.main([str(tmp_path / "same.txt") if word == str(groups) else word for word in argv]) == 0
    groups.write_text("a photo of a {}.\n\na drawing of a {}.\n")
    assert "template groups 2 with sha256" in fails(argv)


def test_fresh_starts_anew(arguments, tmp_path):
    assert train.main(arguments()) == 0
    assert train.main(arguments("OPTIM.LR", "0.01", fresh=True)) == 0
    run = tmp_path / "run"
    rates = [json.loads((folder / "results.json").read_text())["config"]["OPTIM"]["LR"] for folder in (run, run / "replaced-1")]
    assert rates == [0.01, 0.002] and "epoch [1/2]" in (run / "log.txt").read_text()


def test_names_of_images_that_are_not_utf_8(arguments, miniature, tmp_path, capsys):
    """Old archives have Latin-1 names: such images are trained on, tested and classified like others."""
    classes = tmp_path / "data" / "mine"
    for label, name in enumerate(("red", "blue")):
        (classes / name).mkdir(parents=True)
        for number in range(10):
            path = os.fsencode(classes / name) + f"/caf\xe9{number}.png".encode("latin-1")
            with open(path, "wb") as file:
                Image.new("RGB", (8, 8), (200 * label, 10, 20 * number)).save(file, "PNG")
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("DATASET:\n  NAME: ImageFolder\n  FOLDER: mine\n")
    argv = arguments(root=tmp_path / "data", dataset_config_file=yaml)
    argv[argv.index("base")] = "all"
    for _ in range(2):  # the second one reads the files that the first has written
        assert train.main(argv) == 0, capsys.readouterr().err
    image = os.path.join(classes, "red", sorted(os.listdir(classes / "red"))[0])
    assert predict.main(["--model-dir", str(tmp_path / "run"), "--json", str(tmp_path / "p.json"), image]) == 0
    assert json.loads((tmp_path / "p.json").read_text())["images"][0]["image"] == image


def test_an_output_folder_that_is_removed_meanwhile(fails, arguments, tmp_path, monkeypatch):
    save = checkpoint.ResumePoints.save

    def save_and_lose(points, trainer, epoch):
        shutil.rmtree(tmp_path / "run")
        save(points, trainer, epoch)

    monkeypatch.setattr(checkpoint.ResumePoints, "save", save_and_lose)
    assert "was removed while the run wrote into it" in fails(arguments())


def test_too_few_open_files_for_loading_workers(fails, arguments, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (40, 40))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    assert "2 loading workers need up to 64 open files" in fails(arguments("DATALOADER.NUM_WORKERS", "2"))
