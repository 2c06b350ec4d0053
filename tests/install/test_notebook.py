"""The notebook's cells run as they are, in order, in an empty folder, and the same with the installed package."""

import json

import pytest

from basics import home

NOTEBOOK = json.loads((home.PROJECT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def check(said):
    assert "already finished" in said and "base classes" in said and "OPTIM.MAX_EPOCH" in said
    assert "experts, classes, width" in said


def test_in_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in CELLS:
        exec(compile(cell, "notebook", "exec"), names)
    check(capsys.readouterr().out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "output"]


@pytest.mark.timeout(300)
def test_installed(installed, tmp_path):
    (tmp_path / "cells.py").write_text("\n\n".join(CELLS))
    done = installed.run(str(tmp_path / "cells.py"), cwd=tmp_path)
    assert done.returncode == 0, done
    check(done.stdout)
    assert not any(cell.get("outputs") for cell in NOTEBOOK["cells"]), "outputs grow old"
