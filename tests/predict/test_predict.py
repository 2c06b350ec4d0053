"""Predictions from run folders: they are the trainer's own, need no data set, and name what the router did."""

import json
import pathlib
import shutil

import pytest
import torch
from PIL import Image

import predict
from dassl.utils import UserError, read_image
from inference import picture
from prompting import read_groups

PROJECT = pathlib.Path(__file__).parents[2]


def command(capfd, *words):
    """Exit status, stdout, stderr of one command line."""
    status = predict.main([str(word) for word in words])
    out, err = capfd.readouterr()
    return status, out, err


def one_error(err):
    """The one line that a command ended with; before it, at most that it is loading."""
    *before, last = err.splitlines()
    assert all(line.startswith(("Loading ", "Probabilities ")) for line in before) and last.startswith("error: "), err
    return last


def classes_found(predictions):
    return [p["classes"][0]["name"] for p in predictions]


def test_accuracy_is_that_of_training(world, mocoop):
    """The ten test images are classified as train.py classified them."""
    for method, folder in world.runs.items():
        predictor = mocoop if method == "MoCoOp" else predict.Predictor(folder)
        found = classes_found(predictor(world.images, top=1))
        hits = [100.0 * (name == label) for name, label in zip(found, world.classes)]
        assert hits == predictor.results["metrics"]["per_class_accuracy"], method


def test_probabilities_and_weights(world, mocoop):
    for p in mocoop(world.images[:3], top=99):
        assert len(p["classes"]) == 10 and sum(c["probability"] for c in p["classes"]) == pytest.approx(1, abs=1e-5)
        shares = [c["probability"] for c in p["classes"]]
        assert shares == sorted(shares, reverse=True)
        experts = p["experts"]
        assert sum(e["weight"] for e in experts) == pytest.approx(1, abs=1e-5)
        chosen = [e for e in experts if e["chosen"]]
        assert len(chosen) == 2 and sum(e["mixing"] for e in chosen) == pytest.approx(1, abs=1e-5)
        assert min(e["weight"] for e in chosen) >= max(e["weight"] for e in experts if not e["chosen"])
        assert all(e["mixing"] == 0 for e in experts if not e["chosen"])
        # softmax over the chosen = the weights over all, normalised
        total = sum(e["weight"] for e in chosen)
        assert [e["mixing"] for e in chosen] == pytest.approx([e["weight"] / total for e in chosen], abs=1e-5)


def test_router_weights_by_hand(world, mocoop):
    """Softmax of one linear layer on the unit image feature; experts named after the training's groups."""
    trainer = mocoop.trainer
    image = mocoop.transform(read_image(world.images[4]))[None]
    with torch.no_grad():
        feature = trainer.clip.encode_image(image)
        weights = (feature @ trainer.learner.router.weight.t() + trainer.learner.router.bias).softmax(-1)[0]
    experts = mocoop(world.images[4:5])[0]["experts"]
    assert [e["weight"] for e in experts] == pytest.approx(weights.tolist(), abs=1e-6)
    groups = read_groups(PROJECT / "templates" / "experts" / "eurosat_5.txt")
    assert [(e["name"], e["template"]) for e in experts] == [(g.name, g.templates[0]) for g in groups]


def test_batches_do_not_matter(world, mocoop):
    together = mocoop(world.images[:5])
    mocoop.batch_size, before = 2, mocoop.batch_size
    apart = mocoop(world.images[:5])
    mocoop.batch_size = before
    assert [p["image"] for p in apart] == world.images[:5]
    for a, b in zip(together, apart):
        assert a["classes"][0]["probability"] == pytest.approx(b["classes"][0]["probability"], abs=1e-5)
        assert [e["weight"] for e in a["experts"]] == pytest.approx([e["weight"] for e in b["experts"]], abs=1e-6)


def test_routing(world):
    result = predict.routing(world.runs["MoCoOp"], world.images[:2], top=2)
    assert [set(p) for p in result] == [{"image", "classes", "experts"}] * 2 and len(result[0]["classes"]) == 2
    with pytest.raises(UserError, match="CoOp has no router"):
        predict.routing(world.runs["CoOp"], world.images[:1])


def test_command_line(world, tmp_path, capfd):
    """Text, JSON and picture say the same; other class names work."""
    image, file = world.images[0], tmp_path / "out" / "p.json"
    names = tmp_path / "names.txt"
    names.write_text("meadow\n\nice_floe\ndesert\n")
    status, out, err = command(
        capfd, "--model-dir", world.runs["MoCoOp"], image, world.images[1], "--classes-file", names, "--top", 2,
        "--json", file, "--picture", tmp_path / "p.png",
    )  # fmt: skip
    assert status == 0 and err.splitlines()[0].startswith("Loading MoCoOp (ViT-B/16) from ")
    assert f"2 prediction(s) are in {file}" in err
    content = json.loads(file.read_text())
    assert content["classnames"] == ["meadow", "ice_floe", "desert"] and content["trainer"] == "MoCoOp"
    assert [p["image"] for p in content["images"]] == world.images[:2]
    best = content["images"][0]["classes"][0]
    lines = out.splitlines()
    assert lines[0] == image and lines[1] == f"  {100 * best['probability']:6.2f} %  {best['name']}"
    assert "5 experts; the 2 marked * are mixed" in lines[3] and lines[4].split()[2] == "*"
    assert sum(" * " in line and '"' in line for line in lines) == 4  # two of five experts for each of two images
    with Image.open(tmp_path / "p.png") as picture_file:
        assert picture_file.width > 1000 and picture_file.height > 400


def test_methods_without_router(world, tmp_path, capfd):
    status, out, _ = command(
        capfd, "--model-dir", world.runs["ZeroshotCLIP"], world.images[0], "--classes", "cat, dog", "--picture",
        tmp_path / "z.svg", "--json", tmp_path / "z.json",
    )  # fmt: skip
    assert status == 0 and "router" not in out and {line.split()[-1] for line in out.splitlines()[1:]} == {"cat", "dog"}
    assert "experts" not in json.loads((tmp_path / "z.json").read_text())["images"][0]
    assert (tmp_path / "z.svg").read_text().count("<svg") == 1


def test_class_names_of_another_run(world, tmp_path, capfd):
    other = tmp_path / "results.json"
    other.write_text(json.dumps({"classnames": ["glacier", "volcano"]}))
    status, out, _ = command(capfd, "--model-dir", world.runs["CoOp"], world.images[0], "--classes-file", other)
    assert status == 0 and "glacier" in out and "volcano" in out and "Forest" not in out


def broken_run(world, tmp_path, change):
    """A copy of the CoOp run, changed."""
    folder = tmp_path / "run"
    shutil.copytree(world.runs["CoOp"], folder)
    change(folder)
    return folder


def edit(**changes):
    def change(folder):
        file = folder / "results.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


BROKEN = {
    "is an unfinished run": lambda folder: (folder / "results.json").unlink(),
    "let its training": edit(status="running"),
    "not valid JSON": lambda folder: (folder / "results.json").write_text('{"status": "fin'),
    "lacks config or classnames": edit(config=None),
    "unknown key TRAINER.COOP.NOTHING": edit(config={"TRAINER": {"COOP": {"NOTHING": 1}}}),
    "is an evaluation, without weights": lambda folder: (
        edit(eval_only=True)(folder), shutil.rmtree(folder / "prompt_learner")
    ),
    "no model at": lambda folder: shutil.rmtree(folder / "prompt_learner"),
    "model.pth.tar-1": lambda folder: (folder / "prompt_learner" / "model.pth.tar-1").write_bytes(b"PK\x03\x04 cut"),
}  # fmt: skip


@pytest.mark.parametrize("message", BROKEN)
def test_broken_runs(message, world, tmp_path, capfd):
    folder = broken_run(world, tmp_path, BROKEN[message])
    status, out, err = command(capfd, "--model-dir", folder, world.images[0])
    assert status == 2 and out == "" and message in one_error(err)


def test_bad_input(world, tmp_path, capfd):
    """One readable line each, exit status 2, nothing printed before."""
    text, run, image = tmp_path / "text.jpg", world.runs["MoCoOp"], world.images[0]
    text.write_text("not an image")
    empty = tmp_path / "empty" / "inner"
    empty.mkdir(parents=True)
    (empty / "photo.HEIC").write_bytes(b"x")
    cases = [
        ("no such run folder", "--model-dir", tmp_path / "nowhere", image),
        ("is not a run folder", "--model-dir", tmp_path, image),
        (f"did you mean {world.runs[min(world.runs)]}", "--model-dir", world.root, image),
        ("image not found: nothing.jpg", "--model-dir", run, image, "nothing.jpg"),
        (f"no images below {empty}; they hold 1 .heic file(s)", "--model-dir", run, empty),
        (f"cannot read the image {text}", "--model-dir", run, text),
        ("choose one of .csv, .json, .jsonl", "--model-dir", run, image, "--output", "out.xlsx"),
        ("--top 0", "--model-dir", run, image, "--top", 0),
        ('"cat" is given twice', "--model-dir", run, image, "--classes", "cat,dog,cat"),
        ("one is empty", "--model-dir", run, image, "--classes", "cat,,dog"),
        ("none.txt cannot be read", "--model-dir", run, image, "--classes-file", tmp_path / "none.txt"),
        ("knows no others", "--model-dir", world.runs["LinearProbe"], image, "--classes", "cat,dog"),
        ("there are epochs 1", "--model-dir", run, image, "--load-epoch", 7),
        ("unknown key NOTHING", "--model-dir", run, image, "--set", "NOTHING", 1),
        ("no such file: gone.pt", "--model-dir", run, image, "--set", "MODEL.BACKBONE.PATH", "gone.pt"),
    ]
    for message, *words in cases:
        status, out, err = command(capfd, *words)
        assert status == 2 and out == "" and message in one_error(err), (message, err)


def test_pictures_that_cannot_be(world, mocoop, tmp_path):
    predictions = mocoop(world.images[:1])
    with pytest.raises(UserError, match="unknown picture format"):
        picture(predictions, tmp_path / "p.txt", mocoop.results)
    with pytest.raises(UserError, match="at most 100 images"):
        picture(predictions * 101, tmp_path / "p.png", mocoop.results)
    predictions[0]["classes"][0]["name"] = "a $100 bill, 5 $"  # no formula
    picture(predictions, tmp_path / "p.png", mocoop.results)
    assert not (tmp_path / "p.txt").exists() and (tmp_path / "p.png").stat().st_size > 10_000


def test_other_weights_are_refused_and_scores_must_be_finite(world, tmp_path, capfd, monkeypatch):
    state = torch.load(world.root / "tiny.pt", weights_only=True)
    for name, change in (("same", 0.0), ("other", 1e-3)):
        torch.save({**state, "visual.proj": state["visual.proj"] + change}, tmp_path / f"{name}.pt")
    words = ("--model-dir", world.runs["CoOp"], world.images[0], "--set", "MODEL.BACKBONE.PATH")
    assert command(capfd, *words, tmp_path / "same.pt")[0] == 0
    status, _, err = command(capfd, *words, tmp_path / "other.pt")
    assert status == 2 and "was made with weights of CLIP" in one_error(err)
    predictor = predict.Predictor(world.runs["CoOp"])
    explained = predictor.trainer.explained
    monkeypatch.setattr(predictor.trainer, "explained", lambda batch: (explained(batch)[0] * float("nan"), [{}]))
    with pytest.raises(UserError, match="not finite"):
        predictor(world.images[:1])
