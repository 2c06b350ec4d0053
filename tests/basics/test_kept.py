"""Small results kept from run to run: given back for their identity alone, and never from a damaged file."""

import json
import os
import time

import pytest

from basics import kept


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mocoop"


def test_kept_for_its_identity_alone(place):
    assert kept.recall("kind", {"a": 1}) is None
    kept.keep("kind", {"a": 1}, [1, "x"])
    assert kept.recall("kind", {"a": 1}) == [1, "x"]
    assert kept.recall("kind", {"a": 2}) is None and kept.recall("other", {"a": 1}) is None
    (file,) = place.iterdir()
    whole = file.read_text()
    for damaged in (whole[:-9], whole.replace('"x"', '"y"'), "[]", "", whole.replace('"a": 1', '"a": 2')):
        file.write_text(damaged)
        assert kept.recall("kind", {"a": 1}) is None
    other = json.loads(whole)
    file.write_text(json.dumps({**other, "identity": {"a": 2}}))
    assert kept.recall("kind", {"a": 1}) is None


def test_nothing_is_kept_where_that_is_not_possible(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept.keep("kind", 1, 2)
    assert kept.recall("kind", 1) is None


def test_the_longest_unused_make_room(place, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 3)
    for i in range(5):
        kept.keep("kind", i, i)
        if i == 2:
            for file in place.iterdir():
                os.utime(file, (i, i))
            kept.recall("kind", 0)  # used: it stays
    assert kept.recall("kind", 0) == 0 and len(list(place.iterdir())) == 3


def test_stamp_changes_with_the_file(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert kept.stamp(str(file)) is None  # too new: it may change within the same instant
    old = time.time() - 60
    os.utime(file, (old, old))
    assert kept.stamp(str(file)) is None  # its status has changed just now
    time.sleep(kept.SETTLED + 0.1)
    mark = kept.stamp(str(file))
    assert mark == kept.stamp(str(file)) and mark[0] == str(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(mark[2], mark[2]))  # as a careful copy would have it
    assert kept.stamp(str(file)) != mark
    time.sleep(kept.SETTLED + 0.1)
    assert kept.stamp(str(file)) != mark
    assert kept.stamp(str(tmp_path / "nothing")) is None
