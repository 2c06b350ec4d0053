"""Jobs on Ray, with sleepers in place of train.py: failures, killed drivers, workers and nodes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("ray")
SLEEPERS = pathlib.Path(__file__).with_name("sleepers.py")
PATIENCE = 120  # seconds: on a loaded machine Ray takes long to start


def driver(folder, *options):
    return subprocess.Popen(
        [sys.executable, str(SLEEPERS), str(folder), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def steps(folder):
    """{job: number of steps done}"""
    return {p.parent.name: len(p.read_text().split()) for p in pathlib.Path(folder).glob("*/steps")}


def pids(job):
    """[(process, the one that started it for a Ray worker)] of all tries of a job."""
    return [tuple(map(int, line.split())) for line in (job / "pids").read_text().split("\n") if line]


def wait_for(condition, process=None):
    """Wait for something; a driver that was to bring it about and doesn't is killed, and its output shown."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            if process:
                process.kill()
            pytest.fail(f"nothing happened; the driver said:\n{process.communicate()[0] if process else ''}")
        time.sleep(0.02)


def alive(pid):
    """Whether a process runs; a zombie doesn't."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def siblings(pid, name):
    """Processes of this name that have the same parent."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            named = (folder / "cmdline").read_bytes().startswith(name)
            if named and parent(folder.name) == parent(pid):
                found.append(int(folder.name))
        except OSError:
            pass  # has ended
    return found


def open_to_others(pid):
    """Addresses beyond this machine on which a process or a descendant of it listens: {(address in hex, name)}."""
    parents, names, sockets = {}, {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "comm").read_text().strip()
            sockets[int(folder.name)] = [os.readlink(link) for link in (folder / "fd").iterdir()]
        except OSError:
            pass  # has ended

    def belongs(number):
        return number == pid or (number in parents and belongs(parents[number]))

    owners = {link: names[number] for number, links in sockets.items() if belongs(number) for link in links}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            words = line.split()
            address, owner = words[1].split(":")[0], owners.get(f"socket:[{words[9]}]")
            if words[3] == "0A" and owner and not address.endswith(("0100007F", "01000000")):  # 0A: listens; 127.0.0.1, ::1
                found.add((address, owner))
    return found


def assert_whole(folder):
    """Every job finished, and no step was left out or made twice."""
    for job in [f"{kind}{i}" for kind in ("train", "test") for i in range(3)]:
        assert (folder / job / "results.json").exists(), job
        assert (folder / job / "steps").read_text().split() == [str(i) for i in range(10)], job


@pytest.mark.skipif(sys.platform != "linux", reason="processes end with their parent on Linux only")
def test_killed_driver_and_killed_worker_lose_and_repeat_nothing(tmp_path):
    held = tmp_path / "train2.holds"  # the job that is killed: never done before it is
    held.write_text("4")
    first = driver(tmp_path)
    wait_for(lambda: (tmp_path / "train0" / "results.json").exists() and steps(tmp_path).get("train2", 0) >= 2, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    begun = [pid for pid_file in tmp_path.glob("*/pids") for pid, _ in pids(pid_file.parent)]
    wait_for(lambda: not any(map(alive, begun)))  # no run outlives its driver
    before = steps(tmp_path)
    assert before["train0"] == 10 and 2 <= before["train2"] <= 4
    finished = {p.parent.name: pids(p.parent) for p in tmp_path.glob("*/results.json")}

    held.write_text("7")
    second = driver(tmp_path)
    job = tmp_path / "train2"
    wait_for(lambda: before["train2"] + 2 <= steps(tmp_path)["train2"], second)
    worker = parent(pids(job)[-1][1])  # the Ray worker that has it run
    (board,) = siblings(worker, b"ray::Board")  # the actor that knows what has started; Ray kills such, too
    os.kill(board, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    held.unlink()
    output, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, output
    # its second start: said to be one, unless the board took the news of the first with it
    assert any(f"{word}   train2" in output for word in ("again", "start")), output
    assert " of 6 runs are finished already" in output and "0 not finished" in output
    assert len(pids(job)) >= 2 and not any(alive(pid) for pid, _ in pids(job))
    assert_whole(tmp_path)
    assert finished == {name: pids(tmp_path / name) for name in finished}  # not even started


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_open_to_other_machines(tmp_path):
    process = driver(tmp_path)
    try:
        wait_for(lambda: len(steps(tmp_path)) >= 2, process)
        assert open_to_others(process.pid) == set() and process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_failed_runs_are_shown_and_the_others_go_on(tmp_path):
    process = driver(tmp_path, "--broken")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output
    assert output.count("again   broken") == 2 and len(pids(tmp_path / "broken")) == 3  # two retries
    assert len(pids(tmp_path / "user")) == 1  # what a user must mend is not retried
    assert "FAILED  broken: exit status 1" in output and "error: no such file: weights.pt" in output
    assert "FAILED  user: exit status 2" in output and "    error: no data" in output
    assert "skipped needs" in output and not (tmp_path / "needs").exists()
    assert "done    fine: 50.0%" in output and "3 not finished" in output and "Traceback" not in output


def test_two_nodes_share_a_grid_and_one_is_killed(tmp_path):
    process = driver(tmp_path, "--cluster")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert (tmp_path / "nodes").read_text().split() == ["2", "1"], output
    assert_whole(tmp_path)
