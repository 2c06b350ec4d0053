"""Images that can't be read stop a run before it trains, whichever split they are in."""

import shutil

import pytest

from dassl.data import readable
from dassl.utils import UserError


@pytest.fixture
def root(image_root, tmp_path):
    return shutil.copytree(image_root, tmp_path / "images", ignore=shutil.ignore_patterns(".checked"))


@pytest.mark.parametrize("name", ["test_1_4.png", "val_0_0.png", "train_2_3.png"])
def test_found_before_training(name, root, make_trainer):
    (root / name).write_bytes((root / name).read_bytes()[:-40])
    with pytest.raises(UserError, match=f"cannot read the image .*{name}"):
        make_trainer("DATASET.ROOT", str(root))


def test_images_are_read_once_until_they_change(root, make_trainer, monkeypatch):
    make_trainer("DATASET.ROOT", str(root))
    with monkeypatch.context() as patch:
        patch.setattr(readable, "probe_images", lambda paths: pytest.fail("read again"))
        make_trainer("DATASET.ROOT", str(root))
    for name in ("test_0_0.png", "test_0_1.png"):
        (root / name).write_bytes(b"<html>")
    with pytest.raises(UserError, match="2 images can't be read"):
        make_trainer("DATASET.ROOT", str(root))


def test_a_damaged_memory_is_no_memory(root, make_trainer):
    make_trainer("DATASET.ROOT", str(root))
    for memory in (root / ".checked").iterdir():
        memory.write_text("[]")
    make_trainer("DATASET.ROOT", str(root))
