"""Files that were cut off or of which a byte was changed: it is noticed, and what can be made again is made again."""

import contextlib
import io
import json
import pickle
import random
import shutil
import signal

import pytest
import torch

import datasets  # noqa: F401  (registers)
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from dassl.utils import DamagedFileError, UserError, load_checkpoint
from prompting.feature_cache import FeatureCache
from tests.stress import disturb, world

TENTHS = range(10)


def cut(data, tenth):
    """The first ``tenth`` tenths of the bytes."""
    return data[: len(data) * tenth // 10]


def flip(data, rng):
    """The bytes with one bit changed."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


@pytest.fixture(scope="module")
def killed(pristine, tmp_path_factory):
    """A CoOp run that was killed in its last epoch: (data folder, run folder, command)."""
    folder = tmp_path_factory.mktemp("killed")
    data = world.copy_data(pristine, folder / "data")
    argv = world.command("CoOp", data, folder / "run")
    status, _ = world.run(argv, folder / "log", [(disturb.signal_at, ("step", 7, signal.SIGKILL))])
    assert status == -signal.SIGKILL
    return data, folder / "run", argv


@pytest.fixture(scope="module")
def finished(killed, tmp_path_factory):
    """The same run, gone on with to its end: (data folder, run folder, command)."""
    data, run, argv = killed
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(run, folder)
    argv = [*argv, "OUTPUT_DIR", str(folder)]
    assert world.run(argv, folder.parent / "log") == (0, "")
    return data, folder, argv


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_checkpoint_cut_off(finished, tmp_path, said):
    whole = (finished[1] / "prompt_learner" / "model.pth.tar-4").read_bytes()
    path = tmp_path / "model.pth.tar-4"
    for tenth in TENTHS:
        path.write_bytes(cut(whole, tenth))
        with pytest.raises(DamagedFileError) as error:
            load_checkpoint(str(path))
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        if tenth in (0, 5):
            said(f"checkpoint cut off after {tenth * 10} %", f"error: {error.value}")


@pytest.mark.parametrize("kind", ["prompt_learner/model.pth.tar-4", "resume/epoch-3.pt"])
def test_changed_byte_in_a_checkpoint(kind, killed, finished, tmp_path, said, stress):
    """It is noticed, unless it is one of the few that mean nothing: then every number is what it was."""
    source = (killed if kind.startswith("resume") else finished)[1] / kind
    whole, rng, path = source.read_bytes(), random.Random(kind), tmp_path / "file"
    expected, noticed, n = load_checkpoint(str(source)), 0, 3000 if stress else 150
    for _ in range(n):
        path.write_bytes(flip(whole, rng))
        try:
            found = load_checkpoint(str(path))
        except DamagedFileError as error:
            noticed, message = noticed + 1, error
        else:
            assert world.differences(expected, found) == []
    assert noticed > 0.7 * n
    said(f"{n} changed bytes in {kind}", f"{noticed} noticed, {n - noticed} without effect on any number; e.g. error: {message}")


def test_flipped_bits_of_numbers_are_all_noticed(finished, tmp_path):
    source = finished[1] / "prompt_learner" / "model.pth.tar-4"
    whole, path = source.read_bytes(), tmp_path / "file"
    ctx = load_checkpoint(str(source))["state_dict"]["ctx"].numpy().tobytes()
    start = whole.index(ctx)
    for at in range(start, start + len(ctx), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(DamagedFileError, match="wrong checksum"):
            load_checkpoint(str(path))


@pytest.mark.parametrize("tenth", [t if t == 6 else pytest.param(t, marks=pytest.mark.full) for t in TENTHS])
def test_resume_point_cut_off(tenth, killed, tmp_path, said, finishes):
    """The one before is used, and the run ends as if nothing had happened."""
    out = tmp_path / "run"
    shutil.copytree(killed[1], out)
    newest = out / "resume" / "epoch-3.pt"
    newest.write_bytes(cut(newest.read_bytes(), tenth))
    log = finishes([*killed[2], "OUTPUT_DIR", str(out)], out)
    (line,) = [line for line in log.split("\n") if line.startswith("Damaged checkpoint passed over")]
    assert str(newest) in line and "Previous epoch: 2" in log
    said(f"resume point cut off after {tenth * 10} %", line)


@pytest.mark.full
def test_all_resume_points_damaged(killed, tmp_path, said, finishes):
    out = tmp_path / "run"
    shutil.copytree(killed[1], out)
    for point in (out / "resume").iterdir():
        point.write_bytes(flip(point.read_bytes(), random.Random(3)))
    log = finishes([*killed[2], "OUTPUT_DIR", str(out)], out)
    said("all resume points damaged", next(line for line in log.split("\n") if "train from scratch" in line))


def test_damaged_checkpoint_is_not_evaluated(finished, tmp_path, said):
    data, run, argv = finished
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "prompt_learner" / "model.pth.tar-4"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    argv = [argv[0], argv[1], "--eval-only", "--model-dir", str(tmp_path / "run"), *argv[2:]]
    status, message = world.run([*argv, "OUTPUT_DIR", str(tmp_path / "eval")], tmp_path / "log")
    assert status == 2 and str(path) in said("evaluation of a damaged checkpoint", message)
    assert not (tmp_path / "eval" / "results.json").exists()


# -- feature cache -----------------------------------------------------------------------------------------------------


def test_feature_cache(tmp_path, said, stress):
    """Cut off or with a changed byte: computed again, and said; never other features."""
    log, calls = [], []
    cache = FeatureCache(tmp_path / "cache", 1.0, log.append)
    features = torch.randn(20, 8)

    def fetch():
        return cache.fetch("Image features", {"a": 1}, "stamp", 20, lambda: calls.append(1) or features.split(6))[0]

    fetch()
    (path,) = (tmp_path / "cache").glob("*.safetensors")
    whole, rng, n = path.read_bytes(), random.Random(1), 1000 if stress else 100
    for content in [cut(whole, tenth) for tenth in TENTHS] + [flip(whole, rng) for _ in range(n)]:
        path.write_bytes(content)
        log.clear()
        before = len(calls)
        assert torch.equal(fetch(), features)
        assert len(calls) == before or log, "computed again without a word"
        if content == cut(whole, 5):
            said("feature cache cut off after 50 %", log[-1])
    said(f"{n} changed bytes in the feature cache", f"{len(calls) - 11} noticed; e.g. {log[-1] if log else ''}")


# -- split and few-shot files ------------------------------------------------------------------------------------------


@pytest.fixture
def flat(pristine, tmp_path):
    """A data folder with a split file and a few-shot file: (their folder, function that builds the dataset)."""
    root = tmp_path / "flat"
    for image in sorted((pristine / "mine").glob("*/*/*.png")):
        target = root / "mine" / image.parent.name / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(image)

    def build():
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        cfg.merge_from_list(["DATASET.NAME", "ImageFolder", "DATASET.ROOT", str(root), "DATASET.FOLDER", "mine",
                             "DATASET.NUM_SHOTS", 2, "SEED", 1, "VERBOSE", False])  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()) as said:
            dataset = build_dataset(cfg)
        parts = dataset.train_x, dataset.val, dataset.test
        return [[(i.impath, i.label, i.classname) for i in part] for part in parts], said.getvalue()

    build()
    return root / "mine", build


@pytest.mark.parametrize("name", ["split.json", "split_fewshot/shot_2-seed_1.json"])
def test_split_and_few_shot_files(name, flat, said, stress):
    folder, build = flat
    path, (expected, _) = folder / name, build()
    whole, rng, n = path.read_bytes(), random.Random(name), 2000 if stress else 150
    for tenth in TENTHS:
        path.write_bytes(cut(whole, tenth))
        with pytest.raises(UserError) as error:
            build()
        assert str(path) in str(error.value)
    said(f"{name} cut off", f"error: {error.value}".replace(str(folder), "…"))
    noticed, warned, message = 0, 0, ""
    for _ in range(n):
        path.write_bytes(flip(whole, rng))
        try:
            found, log = build()
        except UserError as error:
            noticed, message = noticed + 1, str(error)
        else:
            warned += "WARNING" in log
            assert found == expected or "WARNING" in log or "drawn from another split" in log, path.read_text()
    said(
        f"{n} changed bytes in {name}",
        f"{noticed} refused, {warned} warned of, the others without effect; e.g. error: {message}".replace(str(folder), "…"),
    )


def test_published_few_shot_pickle(flat, said, stress):
    """It has no checksum: what doesn't fit the split is refused, and nothing but a UserError comes of it."""
    folder, build = flat
    json_file = folder / "split_fewshot" / "shot_2-seed_1.json"
    from dassl.data.datasets import Datum

    cache = json.loads(json_file.read_text())
    parts = {part: [Datum(str(folder / path), label, 0, name) for path, label, name in cache[part]]
             for part in ("train", "val")}  # fmt: skip
    path = json_file.with_suffix(".pkl")
    whole, rng, n = pickle.dumps(parts, protocol=4), random.Random(5), 2000 if stress else 150
    path.write_bytes(whole)
    expected = build()[0]
    assert expected[0] == [(str(folder / p), label, name) for p, label, name in cache["train"]]
    contents = [cut(whole, tenth) for tenth in TENTHS] + [flip(whole, rng) for _ in range(n)]
    refused = other = 0
    for content in contents:
        path.write_bytes(content)
        try:
            other += build()[0] != expected
        except UserError as error:
            refused, message = refused + 1, str(error)
    assert refused > len(contents) // 2
    text = f"{refused - 10} refused, {other} give another sample of the split, the others without effect"
    message = message.replace(str(folder), "…")
    said(f"{n} changed bytes in a published few-shot pickle", f"{text}; e.g. error: {message}")
