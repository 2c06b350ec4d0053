"""Two processes make the run that one makes: losses of every batch, metrics, checkpoints; and each does its part."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import train
from tests.cli.conftest import arguments, miniature  # noqa: F401
from tests.parallel import job
from tests.trainers.conftest import image_root, tiny_weights  # noqa: F401

pytestmark = pytest.mark.timeout(900)  # the first test waits for the runs of all methods


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(*words, **environment):
    """Python on a script, started; its output is piped."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=job.PROJECT, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def pair(*words):
    """Two processes of a script, with the variables that torchrun sets."""
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [start(*words, RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in (0, 1)]


def errors_of(processes, seconds):
    """What processes write to stderr until they end; a full pipe stops its process, so all are read at once."""
    with ThreadPoolExecutor() as pool:
        return [errors for _, errors in pool.map(lambda process: process.communicate(timeout=seconds), processes)]


@pytest.fixture(scope="module")
def both(image_root, tiny_weights, tmp_path_factory):  # noqa: F811
    """(what one process found, what each of two found)"""
    folder = tmp_path_factory.mktemp("job")
    (folder / "job.json").write_text(json.dumps({"data": str(image_root), "weights": str(tiny_weights)}))
    two = pair(job.__file__, folder)
    one = job.run(json.loads((folder / "job.json").read_text()), folder / "one")
    for process, errors in zip(two, errors_of(two, 800)):
        assert process.returncode == 0, errors
    return one, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("case", job.CASES)
def test_same_losses_and_metrics(both, case):
    one, two = both[0][case], [found["cases"][case] for found in both[1]]
    assert two[0]["losses"] == two[1]["losses"] and two[0]["metrics"] == two[1]["metrics"]
    metrics, others = dict(one["metrics"]), dict(two[0]["metrics"])
    exact = 0.05 if case == "LinearProbe" else 1e-6  # of logits, in their last bits; L-BFGS magnifies those of the features
    assert others.pop("ece") == pytest.approx(metrics.pop("ece"), abs=exact)
    assert others == metrics
    assert two[0]["losses"] == pytest.approx(one["losses"], rel=1e-9, abs=1e-9)
    assert len(one["losses"]) > (1 if case in WITHOUT_EPOCHS else 7) or case in ("ZeroshotCLIP2", "LinearProbe")


WITHOUT_EPOCHS = {"LinearProbe", "Tip-Adapter", "LP++", "cross-modal"}
# their text features are computed once
WITHOUT_PROMPTS = {"ZeroshotCLIP2", "VPT", "TaskRes", "CLIP-Adapter", "CLAP", "Tip-Adapter-F", *WITHOUT_EPOCHS}


@pytest.mark.parametrize("case", [case for case in job.CASES if case not in WITHOUT_PROMPTS])
def test_each_process_encodes_its_part_of_the_prompts(both, case):
    whole = both[0][case]["tokens"]
    parts = [found["cases"][case]["tokens"] for found in both[1]]
    longest_prefix = 22  # ATPrompt's; computed by both where they share the classes of one context
    assert sum(parts) <= whole + longest_prefix and max(parts) < whole
    if case.startswith("MoCoOp") and "meta-net" not in case:  # six experts, three for each
        assert max(parts) <= whole / 2


def test_features_and_gradients_are_those_of_the_whole(both):
    assert max(found["exactness"] for found in both[1]) < 1e-12


def test_methods_that_cannot_share_a_batch_say_so(both):
    for found in both[1]:
        own_step, plain = found["refusals"]
        assert "forward_backward" in own_step and "PromptTrainer" in plain


def test_wrong_input_is_reported_once(arguments):  # noqa: F811
    two = pair("train.py", *arguments("--no-such-option"))
    errors = errors_of(two, 120)
    assert [process.returncode for process in two] == [2, 2]
    assert [line for line in "".join(errors).splitlines() if line.startswith("error: ")] == [
        "error: --no-such-option comes after the first KEY VALUE pair; options go before the pairs"
    ]


def process_of_rank(launcher, rank):
    """Process id of a torchrun's process."""
    with open(f"/proc/{launcher}/task/{launcher}/children") as f:
        for child in f.read().split():
            with open(f"/proc/{child}/environ") as environment:
                if f"\0RANK={rank}\0" in environment.read():
                    return int(child)
    raise AssertionError(f"torchrun {launcher} has no process of rank {rank}")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds processes in /proc")
def test_a_killed_process_ends_the_job_and_one_process_resumes_it(arguments, tmp_path):  # noqa: F811
    words = arguments("OPTIM.MAX_EPOCH", "40", "TRAIN.PRINT_FREQ", "1")
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port())
    two = start(*launcher, "train.py", *words)
    try:
        for line in two.stdout:
            if line.startswith("epoch [3/40]"):
                break
        os.kill(process_of_rank(two.pid, 1), signal.SIGKILL)
        killed = time.monotonic()
        _, errors = two.communicate(timeout=120)
    finally:
        two.kill()
    assert two.returncode not in (0, None) and time.monotonic() - killed < 60
    assert "another process of this run has ended" in errors or "terminated; the same command goes on" in errors
    assert train.main([str(w) for w in words]) == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Found checkpoint" in log and "2 processes share each batch" in log
    assert json.loads((tmp_path / "run" / "results.json").read_text())["status"] == "finished"
