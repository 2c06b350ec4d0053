"""Files are written whole or not at all; names that were mistyped are recognised."""

import os

import pytest

from basics import UserError, atomic_path, atomic_write, closest, nearest, nearest_file


def test_a_failure_leaves_what_was_there(tmp_path):
    file = tmp_path / "results.json"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(file, "w") as stream:
        stream.write("new")
        raise ZeroDivisionError
    with pytest.raises(UserError, match="cannot write .*results.json: .*unchanged"), atomic_path(file) as part:
        raise OSError(28, "No space left on device", part)
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["results.json"]


def test_a_written_file_has_the_usual_rights(tmp_path):
    with atomic_write(tmp_path / "new" / "file", "w") as stream:
        stream.write("é")
    usual = tmp_path / "usual"
    usual.touch()
    assert (tmp_path / "new" / "file").read_bytes() == "é".encode()
    assert (tmp_path / "new" / "file").stat().st_mode == usual.stat().st_mode


def test_names():
    methods = ["CoOp", "CoCoOp", "MoCoOp"]
    assert closest("mocop", methods) == ["MoCoOp"] and closest("resnet", methods) == []
    assert nearest("MOCOOP", methods) == " (did you mean MoCoOp?)" and nearest("resnet", methods) == ""
    assert " or " in nearest("CoOp", methods, most=2)


def test_nearest_file(tmp_path):
    (tmp_path / "CoOp").mkdir()
    for name in ("rn50.yaml", "vit_b16.yaml"):
        (tmp_path / "CoOp" / name).touch()
    assert nearest_file(tmp_path / "CoOp" / "vit_b6.yaml").name == "vit_b16.yaml"
    assert nearest_file(str(tmp_path / "CoOpp" / "rn5.yaml")) == tmp_path / "CoOp" / "rn50.yaml"
    assert nearest_file(tmp_path / "elsewhere" / "x" / "y.yaml") is None
