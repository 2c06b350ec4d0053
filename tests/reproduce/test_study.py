"""The study: what its rows change, differences paired by seed, p values and Holm's correction against plain references."""

import json
import statistics

import pytest

from reproduce import study
from reproduce.__main__ import main
from reproduce.experiments import EXPERIMENTS, Selection
from reproduce.results import harmonic_mean

STUDY = EXPERIMENTS["study"]


def finish(run, out, accuracy):
    folder = run.directory(out)
    folder.mkdir(parents=True, exist_ok=True)
    known = {"status": "finished", "epochs": 50, "finished_at": "2025-01-01", "config": {}}
    if run.trainer == "MoCoOp":
        sets = [{"experts": ["A", "B"], "share": 0.4 + run.seed / 10}]
        known["router"] = {"images": 10, "entropy": 0.9, "experts": [], "sets": sets, "training": None}
    (folder / "results.json").write_text(json.dumps({"metrics": {"accuracy": accuracy}, **known}))


def test_seeds_come_one_after_the_other():
    jobs = STUDY.jobs(Selection(STUDY, STUDY.datasets, STUDY.rows, STUDY.seeds), 0)
    seeds = [job.seed for job in jobs]
    assert seeds == sorted(seeds) and len(set(jobs)) == len(jobs) and set(seeds) == {1, 2, 3, 4, 5}
    place = {job: i for i, job in enumerate(jobs)}
    assert all(place[job.training] < place[job] for job in jobs if job.training)


def test_variants_change_what_their_names_say():
    changes = {row.name: row.changes("letters", "paper") for row in STUDY.rows}
    assert changes["MoCoOp, paper"] == () and changes["no L_text"] == ("TRAINER.MOCOOP.TEXT_LOSS", "none")
    routed = changes["routed"]
    for name in ("routed, hidden layer", "routed, switch loss", "routed, importance loss", "routed, CLIP's τ"):
        assert changes[name][: len(routed)] == routed and len(changes[name]) > len(routed)
    assert len({changes[name] for name in changes if name not in ("CLIP", "CoOp", "MoCoOp, paper")}) == len(STUDY.rows) - 3


def test_differences_are_paired_by_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    accuracy = {  # row: {set: {seed: (base, new)}}
        "CoOp": {"letters": {1: (70, 60), 2: (80, 50), 3: (75, 65)}, "digits": {1: (80, 90), 2: (82, 91), 3: (84, 80)}},
        "MoCoOp, paper": {"letters": {1: (71, 62), 2: (79, 55), 3: (77, 66)}, "digits": {1: (81, 91), 2: (80, 95), 3: (85, 84)}},
        "CLIP": {"letters": {1: (69, 61)}, "digits": {1: (77, 92)}},
    }
    rows = [row for row in STUDY.rows if row.name in accuracy]
    for row in rows:
        for dataset, seeds in accuracy[row.name].items():
            for seed, values in seeds.items():
                cells = Selection(STUDY, (dataset,), (row,), (seed,)).cells(row, dataset)
                for column, value in zip(("base", "new"), values):
                    finish(cells[column][0], tmp_path, value)
    words = ["study", "--datasets", "letters", "digits", "--methods", *accuracy, "--seeds", "1", "2", "3"]
    assert main([*words, "--format", "json"]) == 0
    blocks = {b["dataset"]: b["rows"] for b in json.loads(capsys.readouterr().out)["blocks"]}
    found = blocks["Difference of H to CoOp: is it better than CoOp?"]
    h = lambda row, d, s: harmonic_mean(*accuracy[row][d].get(s, accuracy[row][d][1]))  # noqa: E731
    for row in ("MoCoOp, paper", "CLIP"):
        means = []
        for seed in (1, 2, 3):
            means.append(statistics.mean(h(row, d, seed) - h("CoOp", d, seed) for d in ("letters", "digits")))
        letters = [h(row, "letters", s) - h("CoOp", "letters", s) for s in (1, 2, 3)]
        assert found[row]["letters"]["ours"] == pytest.approx(statistics.mean(letters))
        assert found[row]["mean"]["ours"] == pytest.approx(statistics.mean(means)) and found[row]["mean"]["seeds"] == 3
        assert found[row]["mean"]["std"] == pytest.approx(statistics.pstdev(means))
        assert 0 < found[row]["p"]["ours"] <= 1
    shares = blocks["Images of base classes that the router sends to its most frequent pair of experts, in %"]
    assert set(shares) == {"MoCoOp, paper"} and shares["MoCoOp, paper"]["letters"]["ours"] == pytest.approx(60)  # 50, 60, 70
    assert shares["MoCoOp, paper"]["digits"]["seeds"] == 3
    reference = blocks["Difference of H to MoCoOp, paper: what does the change do?"]
    assert "MoCoOp, paper" not in reference and set(reference) == {"CLIP", "CoOp"}
    assert main(words) == 0
    assert "p: two-sided t-test" in capsys.readouterr().out


def test_p_against_the_paired_test():
    from scipy.stats import ttest_rel

    own, other = [3.0, 4.0, 4.5, 6.0, 7.0], [2.5, 3.0, 5.0, 5.0, 5.5]
    assert study.p_value([a - b for a, b in zip(own, other)]) == pytest.approx(ttest_rel(own, other).pvalue)
    assert study.p_value([1.0]) is None and study.p_value([0.5, 0.5]) is None


def test_holm():
    """Holm's worked steps: sorted p times 3, 2, 1, never below the one before; a missing one takes no part."""
    assert study.holm([0.02, None, 0.01, 0.04]) == pytest.approx([0.04, None, 0.03, 0.04], nan_ok=True)
    assert study.holm([0.6, 0.9]) == [1.0, 1.0]
