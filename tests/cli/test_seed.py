"""Without a seed, one is drawn, said and recorded; the same command goes on with it."""

import json

import train


def test_no_seed(arguments, tmp_path, capsys):
    def run(out):
        assert train.main(arguments(output_dir=tmp_path / out, seed=-1)) == 0
        seed = json.loads((tmp_path / out / "results.json").read_text())["seed"]
        return seed, capsys.readouterr().out

    first, said = run("a")
    assert f"SEED is -1: this run has seed {first}, drawn at random" in said
    again, said = run("a")
    assert again == first and f"this run has seed {first}, that of the run it belongs to" in said
    assert run("b")[0] != first
    evaluation = arguments(output_dir=tmp_path / "eval", seed=-1)
    assert train.main(["--eval-only", "--model-dir", str(tmp_path / "a"), *evaluation]) == 0
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["seed"] == first
