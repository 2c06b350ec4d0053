"""Every program ends in one way: a status for each kind of error, one printable line on stderr, torch only where it is needed."""

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import basics
import dassl.utils
import prompting
from basics import DamagedFileError, UserError, program

PROJECT = Path(__file__).parents[2]
COMMANDS = (
    "train.py",
    "predict.py",
    "-m reproduce",
    "-m datasets.check",
    "-m datasets.download",
    "-m prompting.group_templates",
    "-m benchmarks.cost_model",
    "-m benchmarks.starts",
    "-m models.score",
)


def raises(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    "error, status, message",
    [
        (UserError("no such file:\n  a\x1b[31m"), 2, r"error: no such file: a\x1b[31m"),
        (DamagedFileError("cut off"), 2, "error: cut off"),
        (OSError(errno.ENOSPC, "No space", "out\x07/log"), 2, r"error: no space left on the disk: out\x07/log"),
        (ModuleNotFoundError("No module", name="yacs.config"), 2, "error: the Python package yacs is not installed"),
        (MemoryError(), 2, "error: out of memory; lower DATALOADER"),
        (RuntimeError("DefaultCPUAllocator: you tried to allocate 40000000000 bytes"), 2, "error: out of memory (40.0 GB"),
        (OSError(errno.EMFILE, "Too many open files", "x.png"), 2, "error: more open files than"),
        (RuntimeError("received 0 items of ancdata"), 2, "error: more open files than"),
        (OSError("[Errno 24] Too many open files: 'x.png'"), 2, "error: more open files than"),
        (
            RuntimeError("unable to write to file </torch_17_3_0>: No space left on device (28)"),
            2,
            "error: no space left in /dev/shm",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is"), 2, "error: no space left in /dev/shm"),
        (KeyboardInterrupt(), 130, "interrupted, again soon"),
        (program.Terminated(), 143, "terminated, again soon"),
        (BrokenPipeError(), 141, "error: the program that reads this output has ended"),
    ],
)
def test_what_ends_with_one_line(capsys, error, status, message):
    assert program.run(raises(error), ", again soon") == status
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError(), ValueError("x"), ModuleNotFoundError("No module", name="dassl.nothing"), OSError("odd")]
)
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(type(bug)):
        program.run(raises(bug))


def test_status_is_what_the_work_returns(capsys):
    assert [program.run(lambda result=result: result) for result in (None, 0, 3, [1], True)] == [0, 0, 3, 0, 0]
    assert capsys.readouterr().err == ""


def test_sigterm_is_handled_while_the_work_lasts():
    before = signal.getsignal(signal.SIGTERM)
    assert program.run(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_error_for_all():
    """What a caller of another package catches is the same class, and not one that code for odd values swallows."""
    assert dassl.utils.UserError is prompting.UserError is basics.UserError
    assert UserError.__mro__[1:] == Exception.__mro__ and issubclass(dassl.utils.DamagedFileError, UserError)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_option_is_one_line(command):
    done = subprocess.run([sys.executable, *command.split(), "--no-such-option\x1b"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import basics, basics.program, datasets, dassl.config",
        "from datasets.check import main; main(['--help'])",
        "import train; train.main(['--help'])",
        "import predict; predict.main(['--help'])",
        "from reproduce.__main__ import main; main(['table1', '--paper'])",
        "from reproduce.__main__ import main; main(['report', '--help'])",
        "from prompting.group_templates import main; main(['--help'])",
    ],
)
def test_what_needs_no_torch_does_not_import_it(code):
    check = "import sys\ntry:\n    {}\nfinally:\n    assert not {{'torch', 'open_clip', 'dassl.engine'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check.format(code)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def started(code, **options):
    """A Python process that runs a program whose work is ``code``."""
    text = f"""
import os, sys, threading
from basics import program
def work():
    {code}
sys.exit(program.as_process(lambda: program.run(work)))
"""
    usual = {"cwd": PROJECT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60}
    return subprocess.run([sys.executable, "-c", text], **{**usual, **options})


def test_names_that_no_terminal_shows_are_written_out():
    done = started("print('caf\\udce9 …')", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0 and done.stdout == b"caf\\udce9 \\u2026\n", done


def test_closed_streams_lead_nowhere(tmp_path):
    """No file takes the place of standard output."""
    code = "file = open('{}', 'w'); print('hello'); os.write(1, b'x'); file.close()".format(tmp_path / "file")
    text = f"from basics import program\nimport os, sys\ndef work():\n    {code}\nsys.exit(program.run(work))"
    command = f'{sys.executable} -c "$CODE" <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, env={**os.environ, "CODE": text}, timeout=60)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == ""


def test_a_full_device():
    with open("/dev/full", "w") as full:
        done = started("print('x' * 9999)", stdout=full)
    assert done.returncode == 2 and done.stderr == b"error: no space left on the disk\n"


def test_a_thread_without_files_ends_the_program():
    """Its other threads would wait for it for ever."""
    done = started("threading.Thread(target=lambda: [open('/dev/null') for _ in range(10**7)]).start(); threading.Event().wait()",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith(b"error: more open files than") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("loaded", [True, False])
def test_only_the_first_import_is_kept_from_the_collector(loaded, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys) if loaded else monkeypatch.delitem(sys.modules, "torch", raising=False)
    before = gc.get_freeze_count()
    try:
        with program.importing():
            assert gc.isenabled() == loaded
        assert gc.isenabled() and (gc.get_freeze_count() > before) != loaded
    finally:
        gc.unfreeze()
