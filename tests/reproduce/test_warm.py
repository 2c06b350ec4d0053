"""Runs that are forks of one warm process against runs that are processes of their own."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import time

import pytest
import torch

from reproduce import processes, warm, warm_process
from tests.trainers.conftest import image_root, tiny_weights  # noqa: F401

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every run is a process of its own")
PROJECT = pathlib.Path(__file__).parents[2]
PATIENCE = 120  # seconds
UNEQUAL = {"finished_at", "seconds", "peak_memory_mb"}  # of results.json: of each call, however it is started
CONFIGS = {"CoOp": "vit_b16_ctxv1", "MoCoOp": "vit_b16"}


@pytest.fixture
def warmed(tmp_path):
    """A Warm with two threads for each run, started in tmp_path/warm."""
    (tmp_path / "warm").mkdir()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would runs
    starter = warm.Warm(dict(os.environ, OMP_NUM_THREADS="2"), str(tmp_path / "warm"))
    yield starter
    starter.close()
    signal.signal(signal.SIGINT, previous)


def words(method, folder, *pairs, options=()):
    """train.py's command line in a folder that has ``data`` and ``tiny.pt``."""
    return [
        *processes.python("train"), "--root", "data", "--seed", "1", "--trainer", method, "--output-dir", folder,
        "--config-file", str(PROJECT / "configs" / "trainers" / method / f"{CONFIGS[method]}.yaml"), *options,
        "DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "mine", "MODEL.BACKBONE.PATH", "tiny.pt", "INPUT.SIZE", "(32, 32)",
        "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", *pairs,
    ]  # fmt: skip


def numbers(folder):
    """(results.json without ``UNEQUAL``, bytes of metrics.csv, {checkpoint: its tensors and numbers}) of a run's folder."""
    results = json.loads((folder / "results.json").read_text().replace(str(folder.parent), ""))
    metrics = (folder / "metrics.csv").read_bytes() if (folder / "metrics.csv").exists() else None
    models = {
        str(path.relative_to(folder)): torch.load(path, weights_only=False)["state_dict"]
        for path in sorted(folder.glob("*/model.pth.tar-*"))
    }
    return {key: value for key, value in results.items() if key not in UNEQUAL}, metrics, models


def assert_equal(ours, fresh):
    assert ours[0] == fresh[0]
    assert ours[1] == fresh[1]
    assert ours[2].keys() == fresh[2].keys()
    for name, state in ours[2].items():
        assert state.keys() == fresh[2][name].keys()
        assert all(torch.equal(value, fresh[2][name][key]) for key, value in state.items()), name


def shown(text, folder):
    """Lines of a run's output, with its folder left out, but for those that say times, and that PyTorch is being imported."""
    lines = text.rstrip().replace(folder, "").split("\n")
    return [line for line in lines if line != "starting" and not line.startswith(("epoch [", "Elapsed: "))]


def alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def background(starter, command):
    """Run a command in a thread; returns (the thread, the list into which its end goes)."""
    ends = []
    thread = threading.Thread(target=lambda: ends.append(starter.run(command)))
    thread.start()
    return thread, ends


@pytest.mark.timeout(600)
def test_runs_of_one_warm_process_are_bit_identical_to_processes_of_their_own(warmed, tmp_path, image_root, tiny_weights):  # noqa: F811
    fresh = processes.Background(warmed.environment, str(tmp_path / "fresh"))
    for folder in ("warm", "fresh"):
        shutil.copytree(image_root, tmp_path / folder / "data", ignore=shutil.ignore_patterns(".features"))
        shutil.copy(tiny_weights, tmp_path / folder / "tiny.pt")
    sequence = [
        words("CoOp", "first", options=["--cache-features"]),
        words("MoCoOp", "mocoop", "DATALOADER.NUM_WORKERS", "2", "TRAIN.LOGGERS", "none"),
        words("CoOp", "tested", options=["--eval-only", "--model-dir", "first"]),
        words("CoOp", "mistyped", "OPTIM.LRR", "1"),
    ]
    for command in sequence:
        folder = command[command.index("--output-dir") + 1]
        ends = [(starter.folder, *starter.run(command)) for starter in (warmed, fresh)]
        ours, theirs = (shown(text, place) for place, _, text in ends)
        assert ends[0][1] == ends[1][1] and ours == theirs
        if ends[0][1] == 0:
            assert_equal(numbers(tmp_path / "warm" / folder), numbers(tmp_path / "fresh" / folder))
            shutil.rmtree(tmp_path / "fresh" / folder)  # the same checkpoints, for evaluations: times are in such files
            shutil.copytree(tmp_path / "warm" / folder, tmp_path / "fresh" / folder)
        else:
            assert ends[0][1] == 2 and ours[-1].startswith("error: unknown key OPTIM.LRR"), ours
    assert warmed.run(words("CoOp", "again"))[0] == 0
    first, again = (numbers(tmp_path / "warm" / name) for name in ("first", "again"))
    assert_equal(({}, *again[1:]), ({}, *first[1:]))
    assert again[0]["metrics"] == first[0]["metrics"]


def test_an_interrupted_run_says_so_and_goes_on_in_the_same_process(warmed, tmp_path, image_root, tiny_weights):  # noqa: F811
    shutil.copytree(image_root, tmp_path / "warm" / "data", ignore=shutil.ignore_patterns(".features"))
    shutil.copy(tiny_weights, tmp_path / "warm" / "tiny.pt")
    long = ("OPTIM.MAX_EPOCH", "400", "TRAIN.CHECKPOINT_FREQ", "1")
    for number, word, status in ((signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)):
        thread, ends = background(warmed, words("CoOp", word, *long))
        wait_for(lambda word=word: any((tmp_path / "warm" / word).glob("*/model.pth.tar-*")))
        (run,) = children(warmed.process.pid)
        os.kill(run, number)
        thread.join(PATIENCE)
        assert ends[0][0] == status and f"{word}; the same command goes on" in ends[0][1], ends
    assert warmed.run([sys.executable, "-c", ""]) == (0, "")  # the process serves


def children(pid):
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_run_has_the_environment_and_the_signals_of_a_process_of_its_own(warmed, tmp_path):
    code = (
        "import os, signal, sys; print(os.getcwd(), sys.argv[1:], sorted(os.environ.items()), os.listdir('/proc/self/fd'),"
        "[signal.getsignal(n) for n in (2, 15, 17)], signal.pthread_sigmask(0, []), sys.stdin.isatty(), flush=True);"
        "sys.stderr.write('second\\n'); sys.exit(7)"
    )
    command = [sys.executable, "-c", code, "a word", "ü"]
    fresh = processes.Background(warmed.environment, warmed.folder)
    assert warmed.run(command) == fresh.run(command)
    assert warmed.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == (137, "")


def test_what_a_killed_server_ran_is_killed_and_the_next_command_runs(warmed):
    thread, ends = background(warmed, [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"])
    wait_for(lambda: warmed.process and children(warmed.process.pid))
    (run,) = children(warmed.process.pid)
    os.kill(warmed.process.pid, signal.SIGKILL)
    thread.join(PATIENCE)
    assert ends[0][0] == 137
    wait_for(lambda: not alive(run))
    assert warmed.run([sys.executable, "-c", "print('here')"]) == (0, "here\n")


def test_commands_end_when_stopped(warmed):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    started = [background(warmed, command) for _ in range(2)]
    wait_for(lambda: warmed.process and len(children(warmed.process.pid)) == 2)
    warmed.stop()
    for thread, ends in started:
        thread.join(PATIENCE)
        assert ends == [(128 + signal.SIGTERM, "")]
    assert warmed.run(command) == (128 + signal.SIGTERM, "")


def test_every_run_is_told_its_end_when_another_ends_meanwhile(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\nwaited = os.waitpid\n"
        "def waitpid(*words):\n    ended = waited(*words)\n    time.sleep(1 if ended[0] else 0)\n    return ended\n"
        "os.waitpid = waitpid\n"
    )
    starter = warm.Warm(dict(os.environ, PYTHONPATH=str(tmp_path)), str(tmp_path))
    started = [background(starter, [sys.executable, "-c", f"import time; time.sleep({seconds})"]) for seconds in (1, 1.4, 1.8)]
    for thread, ends in started:
        thread.join(PATIENCE)
        assert ends == [(0, "")]
    starter.close()


def test_one_process_for_the_same_surroundings(monkeypatch, tmp_path):
    monkeypatch.setattr(warm, "_kept", None)
    first = warm.starter(1, tmp_path)
    assert first.run([sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]) == (0, "1\n")
    process = first.process
    assert warm.starter(1, tmp_path) is first and process.poll() is None
    second = warm.starter(2, tmp_path)
    assert second is not first and process.poll() == 0  # has let go
    assert second.run([sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]) == (0, "2\n")
    second.close()


def test_changed_source_is_not_run_from_memory(monkeypatch, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("")
    os.utime(mine, (1, 1))
    monkeypatch.setattr(warm_process, "looked_through", lambda: [str(mine)])
    server = warm_process.Server(None)
    assert server.is_warm() and server.is_warm()
    mine.write_text("x = 1")
    assert not server.is_warm()
    server = warm_process.Server(None)
    os.utime(mine, (1, 1))
    assert server.is_warm()
    monkeypatch.setattr(warm_process, "looked_through", lambda: [str(mine), str(tmp_path)])
    assert not server.is_warm()


def test_runs_stay_forks_when_the_weights_are_kept_with_two_threads(warmed, tmp_path):
    (tmp_path / "warm" / "data").mkdir()
    config = PROJECT / "configs" / "trainers" / "CoOp" / "builtin.yaml"
    digits = PROJECT / "configs" / "datasets" / "digits.yaml"
    options = ["--root", "data", "--seed", "1", "--trainer", "CoOp", "--no-train"]
    files = ["--config-file", str(config), "--dataset-config-file", str(digits)]
    command = [*processes.python("train"), *options, *files, "DATALOADER.NUM_WORKERS", "0"]
    said = [warmed.run(command) for _ in range(4)]  # the third finds the weights there
    assert [status for status, _ in said] == [0] * 4
    assert not any("starting" in text.split("\n") for _, text in said)  # which a process of its own says
