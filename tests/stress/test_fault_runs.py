"""What befalls a run from outside: each gets its message, and the same command then ends as if nothing had happened."""

import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.stress import disturb, world

EPOCH_3 = ("step", 5)  # runs of world.py have 2 batches an epoch


def full(*values):
    """A parameter set that is left out of a small run."""
    return pytest.param(*values, marks=pytest.mark.full)


def ends(argv, tmp_path, prepare=(), status=2):
    """The message of a run that ends with this exit status, and without a traceback."""
    process = world.Process(argv, tmp_path / "log", prepare)
    found, message = process.wait()
    assert found == status, (found, process.errors())
    assert "Traceback" not in process.errors() and "Exception ignored" not in process.errors(), process.errors()
    return message


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [EPOCH_3, full(("step", 1)), full(("half a checkpoint", 2)), full(("test batch", 1)),
                                    full(("before a rename", 4))], ids=str)  # fmt: skip
def test_full_disk(moment, data, small_disk, tmp_path, said, finishes):
    out = small_disk / "run"
    argv = world.command("CoOp", data, out)
    message = ends(argv, tmp_path, [(disturb.fill_at, (*moment, str(small_disk)))])
    assert "no space left on the disk" in said(f"full disk ({moment[0]} {moment[1]})", message)
    assert not (out / "results.json").exists()
    (small_disk / "filler").unlink()
    log = finishes(argv, out)
    assert ("will resume training" in log) == (moment != ("step", 1))


@pytest.mark.full
def test_full_disk_from_the_start(data, small_disk, tmp_path, said, finishes):
    disturb.Path(small_disk / "filler").write_bytes(b"")
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 65536)
    argv = world.command("CoOp", data, small_disk / "run")
    message = ends(argv, tmp_path)
    assert "no space left on device" in said("full disk (from the start)", message) and str(small_disk) in message
    (small_disk / "filler").unlink()
    finishes(argv, small_disk / "run")


@pytest.mark.full
def test_full_disk_below_the_data(pristine, small_disk, tmp_path, said, finishes):
    """What is kept there for later runs isn't worth stopping for."""
    data = small_disk / "data"
    shutil.copytree(pristine, data, ignore=shutil.ignore_patterns(".features", "split_fewshot", "tiny.pt"))
    (data / "tiny.pt").symlink_to(pristine / "tiny.pt")
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    log = finishes(world.command("CoOp", data, tmp_path / "run"), tmp_path / "run")
    (line,) = [line for line in log.split("\n") if "features can't be kept" in line]
    assert "the run goes on without" in said("full disk below the data folder", line)


@pytest.mark.parametrize("moment", [full(EPOCH_3), ("half a checkpoint", 2)], ids=str)
def test_limit_on_file_sizes(moment, data, tmp_path, said, finishes):
    """The full disk of those who may not mount: the same system calls fail."""
    out = tmp_path / "run"
    argv = world.command("CoOp", data, out)
    message = ends(argv, tmp_path, [(disturb.limit_at, (*moment, 2000))])
    assert "file" in said(f"limit on file sizes ({moment[0]} {moment[1]})", message)
    finishes(argv, out)


def test_output_becomes_read_only(data, small_disk, tmp_path, said, finishes):
    argv = world.command("CoOp", data, small_disk / "run")
    message = ends(argv, tmp_path, [(disturb.read_only_at, (*EPOCH_3, str(small_disk)))])
    assert "read-only" in said("output folder becomes read-only", message) and str(small_disk) in message
    again = ends(argv, tmp_path)
    assert "ead-only file system" in said("output folder is read-only", again) and str(small_disk) in again
    subprocess.run(["umount", "-l", str(small_disk)], check=True)
    finishes(argv, small_disk / "run")


# -- signals -----------------------------------------------------------------------------------------------------------


SIGNALS = {signal.SIGTERM: (143, "terminated"), signal.SIGINT: (130, "interrupted")}


@pytest.mark.parametrize("number, moment", [
    (signal.SIGTERM, EPOCH_3), (signal.SIGINT, ("test batch", 1)), full(signal.SIGINT, EPOCH_3),
    full(signal.SIGTERM, ("test batch", 1)), full(signal.SIGTERM, ("before a rename", 4)),
    full(signal.SIGINT, ("before a rename", 4)), full(signal.SIGTERM, ("half a cache entry", 1)),
    full(signal.SIGINT, ("half a cache entry", 1)),
], ids=str)  # fmt: skip
def test_signals(number, moment, data, tmp_path, said, finishes):
    status, word = SIGNALS[number]
    out = tmp_path / "run"
    argv = world.command("CoOp", data, out)
    message = ends(argv, tmp_path, [(disturb.signal_at, (*moment, number))], status)
    assert message == f"{word}; the same command goes on from the last checkpoint in its output folder"
    said(f"{number.name} ({moment[0]})", f"{message} [exit status {status}]")
    assert message in (out / "log.txt").read_text()
    assert "will resume training" in finishes(argv, out)


@pytest.mark.full
def test_signals_at_random_times(data, tmp_path, said, finishes):
    rng, counts = random.Random(0), {}
    for trial in range(40):
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        out = tmp_path / f"run{trial}"
        argv = world.command("CoOp, loading workers" if trial % 4 == 3 else "CoOp", data, out)
        process = world.Process(argv, tmp_path / "log")
        while not (out / "log.txt").exists() and process.process.exitcode is None:
            time.sleep(0.01)  # before that, Python itself is only being started
        time.sleep(rng.uniform(0, 0.5))
        process.send(number)
        status, message = process.wait()
        assert status in (0, 128 + number, -signal.SIGTERM), (status, process.errors())  # -15: after the run's end
        assert "Traceback" not in process.errors(), process.errors()
        counts[status] = counts.get(status, 0) + 1
        finishes(argv, out)
    said("signals at random times", ", ".join(f"exit status {s} {n} times" for s, n in sorted(counts.items())))


# -- clocks and other runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [-30, full(30)])
def test_clock_jumps(years, data, tmp_path, said, finishes):
    out = tmp_path / "run"
    argv = world.command("CoOp", data, out)
    jumps = (disturb.clock_jumps, (years * 365 * 86400,))
    ends(argv, tmp_path, [jumps, (disturb.signal_at, (*EPOCH_3, signal.SIGTERM))], 143)
    finishes(argv, out, prepare=[jumps])
    seconds = world.json.loads((out / "results.json").read_text())["seconds"]
    assert all(0 <= value < 120 for value in seconds.values())
    said(f"clock jumps by {years} years", f"results are the undisturbed run's; {seconds['total']:.1f} s in all")


@pytest.mark.full
def test_files_of_the_future(data, tmp_path, finishes):
    argv = world.command("CoOp, cached views", data, tmp_path / "run")
    finishes(argv, tmp_path / "run", "CoOp, cached views")
    for file in (data / ".features").glob("*.safetensors"):
        os.utime(file, (4e9, 4e9))
    for image in (data / "mine").rglob("*.png"):
        os.utime(image, (4e9, 4e9))
    log = finishes([*argv, "OUTPUT_DIR", str(tmp_path / "b")], tmp_path / "b", "CoOp, cached views")
    assert "image files have changed" in log


def test_two_runs_in_one_folder(data, tmp_path, said, finishes):
    out = tmp_path / "run"
    argv = world.command("CoOp", data, out)
    first = world.Process(argv, tmp_path / "first", [(disturb.stop_at, EPOCH_3)])
    while len(list(out.glob("resume/*.pt"))) < 2:
        assert first.process.exitcode is None, first.errors()
        time.sleep(0.02)
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    message = ends(argv, tmp_path)
    assert f"in use by another run (pid {first.process.pid})" in said("two runs in one output folder", message)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == files
    first.send(signal.SIGCONT)
    assert first.wait() == (0, "")
    finishes(argv, out)


def test_workers_of_a_killed_run_do_not_hold_its_folder(data, tmp_path):
    """Where the kernel doesn't end them, they outlive it by seconds."""
    argv = world.command("CoOp, loading workers", data, tmp_path / "run")
    first = world.Process(argv, tmp_path / "first", [(disturb.signal_at, (*EPOCH_3, signal.SIGKILL))])
    assert first.wait()[0] == -signal.SIGKILL
    status, errors = world.run(argv, tmp_path / "second")
    assert status == 0 and "in use" not in errors  # on one core PyTorch warns of two workers


@pytest.mark.full
def test_loading_workers_killed(data, tmp_path, said, finishes):
    argv = world.command("CoOp, loading workers", data, tmp_path / "run")
    message = ends(argv, tmp_path, [(disturb.kill_workers_at, EPOCH_3)])
    assert "DataLoader worker" in said("loading workers killed", message) and "DATALOADER.NUM_WORKERS" in message
    finishes(argv, tmp_path / "run")


def test_two_runs_on_one_cache(data, tmp_path, undisturbed, said):
    method = "CoOp, cached views"
    runs = [world.Process(world.command(method, data, tmp_path / name), tmp_path / f"log-{name}") for name in "abc"]
    assert [run.wait() for run in runs] == [(0, "")] * 3
    for name in "abc":
        assert world.differences(undisturbed(method), world.outcome(tmp_path / name)) == []
    entries = list((data / ".features").glob("*.safetensors"))
    assert len(entries) == world.EPOCHS + 1  # the views of every epoch and the test images: each computed once
    waits = [line for run in runs for line in run.printed().split("\n") if "waiting for it" in line]
    said("three runs on one cache", waits[0] if waits else f"{len(entries)} entries, each computed once")


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part, size, words", [
    ("test", 0, "cannot read the image"), full("test", 40, "cannot read the image"),
    full("test", -1, "image not found"), full("train", 40, "cannot read the image"), ("train", -1, "image not found"),
])  # fmt: skip
def test_image_damaged_or_missing_midway(part, size, words, data, tmp_path, said, finishes):
    workers = 2 if part == "train" else 0
    images = sorted((data / "mine" / part).rglob("*.png"))
    kept = {image: image.read_bytes() for image in images}
    out, pairs = tmp_path / "run", ("DATALOADER.NUM_WORKERS", str(workers), "DATALOADER.DECODED_MB", "0")
    argv = world.command("CoOp", data, out, *pairs)
    message = ends(argv, tmp_path, [(disturb.damage_at, (*EPOCH_3, images, size))])
    assert words in said(f"{part} image {'missing' if size < 0 else f'cut off after {size} bytes'} midway", message)
    assert any(str(image) in message for image in images)
    for image, content in kept.items():
        image.write_bytes(content)
    finishes(argv, out)


# -- numbers -----------------------------------------------------------------------------------------------------------

PROMPTED = ["CoOp", full("CoCoOp"), full("KgCoOp"), full("ProGrad"), "MoCoOp", full("MoCoOp, released recipe")]


@pytest.mark.parametrize("method", PROMPTED)
def test_non_finite_loss(method, data, tmp_path, said):
    """It names step, learning rate and last good checkpoint; that one is there and finite."""
    import torch

    from dassl.utils import load_checkpoint

    out = tmp_path / "run"
    argv = world.command(method, data, out, "OPTIM.WARMUP_EPOCH", "1")
    message = said(f"loss that is not finite, {method}", ends(argv, tmp_path, [(disturb.step_too_far, (3,))]))
    words = r"is not finite \(infinite or NaN\) in epoch (\d), batch \d, at the learning rate \S*\d"
    found = re.search(words, message)
    assert found and f"The last good checkpoint is that of epoch {int(found[1]) - 1} in {out / 'resume'}." in message
    for point in (out / "resume").iterdir():
        for model in load_checkpoint(str(point))["models"].values():
            assert all(torch.isfinite(value).all() for value in model["state_dict"].values())
    assert (out / "resume" / f"epoch-{int(found[1]) - 1}.pt").exists() and not (out / "results.json").exists()
