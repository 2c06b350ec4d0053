"""`python -m reproduce calibration`: its table, its picture, and records that have nothing to say."""

import json

import pytest

from reproduce.__main__ import main

BINS = [
    {"above": 0.4, "to": 0.4667, "images": 10, "confidence": 0.45, "accuracy": 0.5},
    {"above": 0.9333, "to": 1.0, "images": 30, "confidence": 0.97, "accuracy": 0.8},
]


@pytest.fixture
def runs(tmp_path):
    """Two finished runs, the second with a name that a picture would typeset."""
    for name in ("seed1", "seed2"):
        (tmp_path / name).mkdir()
        record = {"status": "finished", "metrics": {"accuracy": 72.5}, "calibration": BINS, "trainer": "CoOp", "dataset": "$x_1$"}
        (tmp_path / name / "results.json").write_text(json.dumps(record))
    return [str(tmp_path / name) for name in ("seed1", "seed2")]


@pytest.mark.parametrize("kind", ["pdf", "png", "svg"])
def test_table_and_picture(runs, kind, tmp_path, capsys):
    assert main(["calibration", *runs, "--out", str(tmp_path / f"out.{kind}")]) == 0
    line = next(line for line in capsys.readouterr().out.split("\n") if line.startswith(runs[0])).split()
    assert line[1:] == ["40", "72.50", "84.00", "+11.50", "14.00"]
    start = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}[kind]
    assert (tmp_path / f"out.{kind}").read_bytes().startswith(start)


@pytest.mark.parametrize("bins", [None, [], {}, [5], [{"above": 0}], [{**BINS[0], "images": "x"}], [{**BINS[0], "images": 0}]])
def test_records_without_calibration(runs, bins, tmp_path, capsys):
    record = json.loads((tmp_path / "seed1" / "results.json").read_text())
    (tmp_path / "seed1" / "results.json").write_text(json.dumps({**record, "calibration": bins}))
    assert main(["calibration", *runs]) == 2
    assert "says nothing of calibration" in capsys.readouterr().err


def test_no_run_and_no_picture(runs, tmp_path, capsys):
    assert main(["calibration", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    assert main(["calibration", *runs, "--out", "x.gif"]) == 2
    assert "choose one of .pdf" in capsys.readouterr().err
