"""Locks on folders: the operating system's, and leases where it has none."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time

import pytest

from basics import UserError, locks
from basics.files import PART_SUFFIX, atomic_write, remove_parts
from basics.locks import lock_folder


@pytest.fixture(params=["flock", errno.ENOSYS, errno.ENOLCK])
def folder(request, monkeypatch, tmp_path):
    """A folder on a file system with locks, or without."""
    if request.param != "flock":

        def no_locks(*args):
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", no_locks)
    return str(tmp_path / "run")


@pytest.fixture
def leased(monkeypatch, tmp_path):
    """A folder on a file system without locks."""

    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_one_at_a_time(folder):
    with lock_folder(folder):
        with pytest.raises(UserError, match=f"in use by another run \\(pid {os.getpid()}"):
            lock_folder(folder)
    lock_folder(folder).close()
    assert [name for name in os.listdir(folder) if name != ".lock"] == []


def test_a_forked_worker_neither_keeps_nor_gives_back(folder):
    lock = lock_folder(folder)
    pid = os.fork()
    if not pid:
        lock.close()
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(UserError, match="in use"):
        lock_folder(folder)
    lock.close()


def lease(folder, **changes):
    """A lease of this process, with changes; {} in the file for None."""
    holder = {"token": "0", **locks._this_process(), "started": "2026-01-01 00:00:00", **changes}
    (folder / locks.LEASE).write_text(json.dumps(holder))
    return folder / locks.LEASE


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_is_void_when_its_process_has_ended_or_another_has_its_number(leased):
    for changes in ({"pid": dead_pid()}, {"process_start": "17"}, {"boot": "earlier", "host": "here"}):
        path = lease(leased, **changes)
        if "boot" in changes:  # of the same machine, before it was started anew
            os.utime(path, (time.time() - locks.VOID_AFTER - 60,) * 2)
        with lock_folder(leased):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()


def test_a_lease_of_another_machine_holds_while_it_is_renewed(leased):
    path = lease(leased, host="node17", boot="another", pid=4711)
    with pytest.raises(UserError, match="pid 4711 on node17, since 2026-01-01.*last sign of life 0 s ago.*delete .*\\.lease"):
        lock_folder(leased)
    os.utime(path, (time.time() - locks.VOID_AFTER - 60,) * 2)
    lock_folder(leased).close()


def test_a_damaged_lease_holds_until_it_is_old(leased):
    path = leased / locks.LEASE
    path.write_text("[")
    with pytest.raises(UserError, match="pid unknown on unknown"):
        lock_folder(leased)
    os.utime(path, (time.time() - locks.VOID_AFTER - 60,) * 2)
    lock_folder(leased).close()


def test_a_lease_is_renewed_but_not_one_that_was_taken_away(leased, monkeypatch):
    monkeypatch.setattr(locks, "RENEWED_EVERY", 0.01)
    path = leased / locks.LEASE
    with lock_folder(leased):
        os.utime(path, (1e9, 1e9))
        end = time.monotonic() + 10
        while path.stat().st_mtime < 1.1e9 and time.monotonic() < end:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1.1e9
        others = lease(leased, token="another's")
    assert others.exists()


def test_only_one_of_many_gets_a_void_lease(leased):
    code = (
        "import fcntl, sys\n"
        "def no_locks(*args): raise OSError(37, 'No locks available')\n"
        "fcntl.flock = no_locks\n"
        "from basics.locks import lock_folder\n"
        "lock = lock_folder(sys.argv[1]); print('got it', flush=True); sys.stdin.read(); lock.close()\n"
    )
    lease(leased, pid=dead_pid())
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", code, leased], **streams) for _ in range(5)]
    end = time.monotonic() + 120
    while sum(process.poll() is None for process in started) > 1 and time.monotonic() < end:
        time.sleep(0.01)  # the one that got it holds it until all others have ended
    outcomes = [process.communicate() for process in started]
    assert sum("got it" in out for out, _ in outcomes) == 1, outcomes
    assert all("in use by another run" in err for out, err in outcomes if "got it" not in out)


def test_only_own_partly_written_files_are_removed(tmp_path):
    kept = [".notes.tmp", ".x.mocoop-part.txt", f"notes{PART_SUFFIX}", "results.json"]
    for name in kept:
        (tmp_path / name).touch()
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a.json") as file:
        os.link(file.name, f"{tmp_path}/.a.json.killed{PART_SUFFIX}")  # as if the process had been killed here
        1 / 0  # noqa: B018
    remove_parts(tmp_path, older_than=3600)
    assert len(os.listdir(tmp_path)) == len(kept) + 1
    remove_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
