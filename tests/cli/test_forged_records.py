"""Records of a run that somebody has written or damaged: every program reads them, or says in one line that it can't."""

import copy
import json

import pytest

import predict
import train
from reproduce.__main__ import main as reproduce

ODD = (None, True, -1, 1e308, "", "x", "\x1b[31m", [], [None], [[]], {}, {"x": None}, {"accuracy": {}})


def places(record, depth=2):
    """Paths of keys into nested dictionaries; of long ones the first and the last few."""
    for name in list(record)[:40]:
        yield (name,)
        if depth > 1 and isinstance(record[name], dict):
            yield from ((name, *rest) for rest in places(record[name], depth - 1))


def forged(record):
    """(what was done, another record): each entry replaced by something odd, in turn."""
    for number, place in enumerate(places(record)):
        changed = copy.deepcopy(record)
        node = changed
        for name in place[:-1]:
            node = node[name]
        node[place[-1]] = ODD[number % len(ODD)]
        yield (place, ODD[number % len(ODD)]), changed
    for whole in ([], 5, None, "x", {}, {"status": "finished"}, {"status": "finished", "metrics": {"accuracy": 50.0}}):
        yield whole, whole


@pytest.fixture(scope="module")
def run(miniature, tmp_path_factory):
    """(folder of a finished run that tables find, arguments of train.py that made it)"""
    out = tmp_path_factory.mktemp("out")
    folder = out / "base2new" / "train_base" / "eurosat" / "shots_4" / "CoOp" / "vit_b16_ctxv1" / "seed1"
    argv = ["--root", str(miniature.data), "--seed", "1", "--trainer", "CoOp", "--output-dir", str(folder),
            "--dataset-config-file", "configs/datasets/eurosat.yaml",
            "--config-file", "configs/trainers/CoOp/vit_b16_ctxv1.yaml",
            "DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base", *miniature.pairs]  # fmt: skip
    assert train.main(argv) == 0
    return folder, argv


@pytest.mark.parametrize("name", ["results.json", "run.json"])
@pytest.mark.parametrize("program", ["tables", "predict", "train"])
def test_forged_records(run, name, program, miniature, monkeypatch, capsys):
    folder, argv = run
    monkeypatch.setenv("OUT", str(folder.parents[6]))
    monkeypatch.setenv("DATA", str(miniature.data))
    image = str(next((miniature.data / "eurosat" / "2750" / "Forest").iterdir()))
    calls = {
        "tables": [
            lambda: reproduce(["summarise", str(folder.parent)]),
            lambda: reproduce(["table1", "--datasets", "eurosat", "--list-runs", "--set", "DATASET.NUM_SHOTS", "4"]),
            lambda: reproduce(["report", "--out", str(folder.parents[6] / "report.html")]),
        ],
        "predict": [lambda: predict.main(["--model-dir", str(folder), image])],
        "train": [lambda: train.main(argv)],
    }[program]
    kept = {file: (folder / file).read_bytes() for file in ("results.json", "run.json")}
    cases = list(forged(json.loads(kept[name])))
    for number, (what, content) in enumerate(cases):
        if number % 17 and number < len(cases) - 7:  # a call takes a second
            continue
        (folder / name).write_text(json.dumps(content))
        for call in calls:
            try:
                status = call()
            except BaseException as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
            said = capsys.readouterr()
            assert status in (0, 1, 2) and "\x1b[31m" not in said.out + said.err, what
            if status == 2:
                *before, last = said.err.splitlines()
                assert last.startswith("error: ") and all(line.startswith("Loading ") for line in before), what
                assert not before or program == "predict", what
        for file, data in kept.items():
            (folder / file).write_bytes(data)
