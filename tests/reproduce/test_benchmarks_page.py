"""`python -m benchmarks`: every script has its place, and what they print is on one page, what failed included."""

import re
from argparse import Namespace

import pytest

from basics import UserError, home
from benchmarks import __main__ as all_of_them
from benchmarks.growth import exponent

FOLDER = home.PROJECT / "benchmarks"


def test_every_script_is_among_them_and_has_the_options_it_is_called_with():
    scripts = {path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text()} - {"__main__"}
    assert scripts == {b.script for b in all_of_them.BENCHMARKS}
    for b in all_of_them.BENCHMARKS:
        source = (FOLDER / f"{b.script}.py").read_text()
        for option in re.findall(r"--[a-z-]+", f"{b.words} {b.quick} {b.gpu}"):
            assert f'"{option}"' in source or (option == "--set" and "add_settings" in source), (b.script, option)


def test_on_a_gpu_each_half_precision_has_its_call_and_the_rest_is_left_out():
    args = Namespace(only=None, device="cuda", quick=False, peak_tflops=989.0)
    words = {(b.script, words) for b, words in all_of_them.calls(args)}
    assert ("text_tower", "--dtype bfloat16 --all --peak-tflops 989.0 --device cuda") in words
    assert {script for script, _ in words} == {b.script for b in all_of_them.BENCHMARKS if b.gpu}
    assert all("--device cuda" in each and "{" not in each for _, each in words)


def test_the_page_has_what_was_printed_and_what_failed(tmp_path, monkeypatch, capsys):
    bad = all_of_them.Benchmark("cost_model", "Broken", "", "--datasets nowhere")
    memory = next(b for b in all_of_them.BENCHMARKS if b.script == "text_memory")
    monkeypatch.setattr(all_of_them, "BENCHMARKS", (bad, memory))
    out = tmp_path / "new" / "page.md"
    assert all_of_them.main(["--quick", "--out", str(out)]) == 1
    page = out.read_text()
    assert "CPU: " in page and "PyTorch" in page and "No GPU was used" in page
    assert "## Broken" in page and "It failed, exit status 2" in page and "nowhere" in page
    assert "`python -m benchmarks.text_memory --classes 20 --experts 2`" in page and "20 classes x 2 experts" in page
    assert "failed, exit status 2" in capsys.readouterr().out


def test_what_has_nothing_to_do_with_a_gpu_is_refused_there():
    with pytest.raises(UserError, match="none of these has anything to do with a GPU"):
        all_of_them.main(["--only", "cost_model", "--device", "cuda"])


def test_exponent():
    assert exponent((10, 100, 1000), (5.0, 40.0, 400.0)) == pytest.approx(1.0)
    assert exponent((1, 2), (3.0, 12.0)) == pytest.approx(2.0)
