"""Data, processes and the list of messages of the stress tests; `--stress` (make stress) runs them in full size."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.stress import fuzzing, world


def pytest_configure(config):
    config.addinivalue_line("markers", "full: runs under `make stress` only")


def pytest_collection_modifyitems(config, items):
    """Leave the tests marked `full` out of a small run."""
    if not config.getoption("--stress"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if not item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter, config):
    """With --stress: what every fault said, for docs/reliability.md."""
    if not config.getoption("--stress"):
        return
    terminalreporter.section("what was said")
    for fault, message in world.MESSAGES:
        terminalreporter.line(f"{fault}: {message}")
    for what, (n, refused) in fuzzing.COUNTS.items():
        terminalreporter.line(f"fuzz, {what}: {n} inputs, {refused} refused with a message, no other error")
    terminalreporter.line(f"fuzz: {sum(n for n, _ in fuzzing.COUNTS.values())} inputs in all")


@pytest.fixture(scope="session")
def stress(request):
    """Whether the tests run in full size."""
    return request.config.getoption("--stress")


@pytest.fixture
def said(tmp_path):
    """Function (fault, message): notes a message, with this test's folder taken out; returns it."""

    def note(fault, message):
        world.MESSAGES.append((fault, message.replace(str(tmp_path), "…")))
        return message

    return note


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A data folder that nobody writes to."""
    return world.make_data(tmp_path_factory.mktemp("pristine") / "data")


@pytest.fixture
def data(pristine, tmp_path):
    """A copy of it for one test."""
    return world.copy_data(pristine, tmp_path / "data")


@pytest.fixture(scope="session")
def undisturbed(pristine, tmp_path_factory):
    """Function: method -> outcome of a run that nothing happened to, made once."""
    made = {}

    def outcome(method="CoOp"):
        if method not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            data = world.copy_data(pristine, folder / "data")
            status, message = world.run(world.command(method, data, folder / "run"), folder / "log")
            assert status == 0, message
            made[method] = world.outcome(folder / "run")
        return made[method]

    return outcome


@pytest.fixture
def finishes(undisturbed, tmp_path):
    """Function (arguments of train.py, run folder, method): the run ends well, and as the undisturbed one did."""

    def check(argv, out, method="CoOp", prepare=()):
        status, message = world.run(argv, tmp_path / "again", prepare)
        assert status == 0, message
        assert world.differences(undisturbed(method), world.outcome(out)) == []
        assert world.leftovers(out) == []
        return (tmp_path / "again.out").read_text()

    return check


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 4 MB, where the tests may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a file system of its own needs mount")
    if done.returncode:
        pytest.skip(f"a file system of its own needs the right to mount one (user id {os.getuid()})")
    yield place
    while place.is_mount():  # a test may have mounted something over it
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for the inputs of a module."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def bounded_memory():
    """An input that fills the memory must not take the machine with it."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def examine(stress, bounded_memory):
    """Function (strategy, check): check 1,600 inputs, or 40 in a small run."""

    def run(strategy, check):
        kind = settings(max_examples=1600 if stress else 40, deadline=None, database=None, derandomize=True,
                        suppress_health_check=list(HealthCheck))  # fmt: skip
        kind(given(strategy)(check))()

    return run
