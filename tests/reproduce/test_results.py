"""Summaries over seeds: our results.json and the logs that the published code writes."""

import json
import pathlib

import pytest

from basics import UserError
from reproduce import results
from reproduce.__main__ import main

LOGS = pathlib.Path(__file__).parents[1] / "golden" / "published" / "logs"


def write_result(folder, accuracy, status="finished"):
    folder.mkdir(parents=True)
    metrics = {"accuracy": accuracy, "error_rate": 100 - accuracy, "macro_f1": accuracy / 2}
    (folder / "results.json").write_text(json.dumps({"version": 1, "status": status, "metrics": metrics}))


def test_published_coop_log_gives_the_printed_test_metrics():
    result = results.read_run(LOGS / "train_base" / "seed1")
    assert result.metrics == {"accuracy": 62.2, "error": 37.8, "macro_f1": 51.2}


def test_kgcoop_log_has_another_format_and_reads_the_same():
    assert results.read_log(LOGS / "kgcoop_train_base.txt") == {"accuracy": 40.0, "error": 60.0, "macro_f1": 29.64}


def test_every_published_log_gives_its_last_accuracy(golden_dir):
    logs = [path for path in (golden_dir / "published" / "logs").rglob("*.txt") if path.is_file()]
    if not logs:
        pytest.skip(f"no published logs in {golden_dir}")
    for log in logs:
        last = [line for line in log.read_text().split("\n") if line.startswith("* accuracy: ")][-1]
        assert results.read_log(log)["accuracy"] == float(last.removeprefix("* accuracy: ").rstrip("%")), log


def test_summary_of_published_logs(capsys):
    assert main(["summarise", str(LOGS / "train_base")]) == 0
    assert "* accuracy: 60.73% +- 1.04%" in capsys.readouterr().out
    assert main(["summarise", str(LOGS / "train_base"), "--ci95"]) == 0
    assert "* accuracy: 60.73% +- 1.17%" in capsys.readouterr().out  # 1.96 * 1.037 / sqrt(3)


def test_base_and_new_folders_give_h_of_the_means(capsys):
    main(["summarise", str(LOGS)])
    row = capsys.readouterr().out.rstrip().split("\n")[-1].split()
    assert row[-3:] == ["60.73", "35.57", "44.86"]


def test_log_counts_only_after_the_end_of_training(tmp_path):
    text = (LOGS / "train_base" / "seed1" / "log.txt").read_text()
    running = text[: text.index("Finish training")] + "=> result\n* accuracy: 99.0%\n"  # a validation result
    log = tmp_path / "log.txt"
    log.write_text(running)
    assert results.read_log(log) is None
    log.write_text(running + text[text.index("Finish training") :])
    assert results.read_log(log)["accuracy"] == 62.2


def test_a_resumed_run_is_read_from_its_newest_finished_log(tmp_path):
    text = (LOGS / "train_base" / "seed1" / "log.txt").read_text()
    (tmp_path / "log.txt").write_text(text[: len(text) // 2])
    (tmp_path / "log.txt-2024-01-02-10-00-00").write_text(text)
    (tmp_path / "log.txt-2024-01-03-10-00-00").write_text(text[: len(text) // 2])
    assert results.read_run(tmp_path).metrics["accuracy"] == 62.2


def test_results_json_has_full_precision_and_wins_over_the_log(tmp_path):
    write_result(tmp_path / "seed1", 62.2222)
    (tmp_path / "seed1" / "log.txt").write_text("=> result\n* accuracy: 62.2%\n")
    assert results.read_run(tmp_path / "seed1").metrics["accuracy"] == 62.2222


def test_unfinished_runs_are_named_and_left_out(tmp_path, capsys):
    write_result(tmp_path / "seed1", 50.0)
    write_result(tmp_path / "seed2", 90.0, status="running")
    main(["summarise", str(tmp_path)])
    out = capsys.readouterr().out
    assert f"no result (not finished?): {tmp_path / 'seed2'}" in out
    assert "* accuracy: 50.00% +- 0.00%" in out


def test_averages_are_over_the_data_sets_of_one_method(tmp_path, capsys):
    for method, values in {"CoOp": (60.0, 70.0), "KgCoOp": (80.0, 90.0)}.items():
        for dataset, value in zip(("eurosat", "dtd"), values):
            write_result(tmp_path / dataset / "shots_16" / method / "rn50" / "seed1", value)
    main(["summarise", str(tmp_path)])
    text = capsys.readouterr().out
    for method, mean in (("CoOp", 65), ("KgCoOp", 85)):
        line = f"Average performance of 2 experiments of shots_16/{method}/rn50"
        assert f"{line}\n* accuracy: {mean}.00%" in text
    assert "75.00" not in text


def test_average_over_datasets_is_the_h_of_averages(tmp_path, capsys):
    for dataset, base, new in (("eurosat", 90.0, 60.0), ("dtd", 70.0, 40.0)):
        tail = pathlib.Path(dataset, "shots_16", "CoOp", "vit_b16_ctxv1", "seed1")
        write_result(tmp_path / "train_base" / tail, base)
        write_result(tmp_path / "test_new" / tail, new)
    main(["summarise", str(tmp_path)])
    last = capsys.readouterr().out.rstrip().split("\n")[-1]
    assert last.startswith("average of 2/shots_16/CoOp/vit_b16_ctxv1")
    assert last.split()[-3:] == ["80.00", "50.00", "61.54"]


def test_nothing_to_read_is_an_error(tmp_path, capsys):
    assert main(["summarise", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such folder"):
        results.collect(tmp_path / "missing")


def test_harmonic_mean_of_zero():
    assert results.harmonic_mean(0.0, 0.0) == 0.0
    assert results.harmonic_mean(82.63, 67.99) == pytest.approx(74.60, abs=0.01)  # the paper's CoOp row


def test_seeds_of_different_settings_are_said_and_replaced_runs_left_out(tmp_path, capsys):
    for name, epochs, accuracy in (("seed1", 200, 70.0), ("seed2", 5, 50.0), ("seed1/replaced-1", 5, 10.0)):
        (tmp_path / name).mkdir(parents=True)
        config = {"OPTIM": {"MAX_EPOCH": epochs}, "SEED": accuracy, "OUTPUT_DIR": name}
        content = {"status": "finished", "metrics": {"accuracy": accuracy}, "config": config}
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    main(["summarise", str(tmp_path)])
    out = capsys.readouterr().out
    assert "seed2/results.json is no other seed of" in out and "it differs in OPTIM.MAX_EPOCH 200 (now 5)" in out
    assert "* accuracy: 60.00%" in out and "replaced" not in out


def test_runs_chosen_in_the_published_way_are_marked(tmp_path, capsys):
    for part in ("train_base", "test_new"):
        for method in ("TipAdapter", "CoOp"):
            folder = tmp_path / "base2new" / part / "eurosat" / "shots_16" / method / "rn50" / "seed1"
            write_result(folder, 60.0)
            if method == "TipAdapter":
                content = json.loads((folder / "results.json").read_text())
                content["selection"] = {"protocol": "published", "by": "the best accuracy on 8,100 test images"}
                (folder / "results.json").write_text(json.dumps({**content, "trainer": method}))
    main(["summarise", str(tmp_path)])
    text = capsys.readouterr().out
    assert text.count("Note: TipAdapter: chosen in the published way, by the best accuracy on 8,100 test images") == 2
    assert "eurosat/shots_16/TipAdapter/rn50 *" in text and "CoOp/rn50 *" not in text
    assert "* chosen in a published way: see the notes above" in text
