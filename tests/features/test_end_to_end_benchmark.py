"""The benchmark of whole steps and evaluations runs, and the cached way is the fastest."""

import json

from benchmarks import end_to_end


def test_end_to_end_benchmark(tmp_path, capsys):
    file = tmp_path / "times.json"
    end_to_end.main(["--sizes", "small", "--methods", "ZeroshotCLIP", "CoOp", "--repeats", "1", "--json", str(file)])
    rows = json.loads(file.read_text())["small"]
    assert set(rows) == {"ZeroshotCLIP", "CoOp"} and "step" not in rows["ZeroshotCLIP"]
    for row in rows.values():
        assert row["image"]["later"] * 3 < min(row["image"]["first"], row["image"]["plain"])
    step, epoch = rows["CoOp"]["step"], rows["CoOp"]["epoch"]
    assert step["later"] < step["first"] and epoch["plain"] == 5 * step["plain"]  # 160 images in batches of 32
    assert "10 classes" in capsys.readouterr().out
