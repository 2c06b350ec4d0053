"""What an image file means: bit depths, EXIF orientation, files that can't be read; labels that mean something else."""

import os
import subprocess

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UserError, probe_image, read_image
from dassl.utils.images import _UPRIGHT, is_turned

GREY = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))


@pytest.mark.parametrize("name, values", [
    ("a.png", GREY.astype(np.uint16) * 257),
    ("a.tif", GREY.astype(np.uint16) * 257),
    ("big_endian.tif", (GREY.astype(np.uint16) * 257).astype(">u2")),
    ("a8.png", GREY),
])  # fmt: skip
def test_sixteen_bits_are_scaled(name, values, tmp_path):
    Image.fromarray(values).save(tmp_path / name)
    assert np.abs(np.asarray(read_image(tmp_path / name)).astype(int) - GREY[..., None]).max() == 0
    assert probe_image(tmp_path / name) == (False, False)


def test_sixteen_bit_pgm(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 32 32 65535\n" + (GREY.astype(np.uint16) * 257).astype(">u2").tobytes())
    assert np.abs(np.asarray(read_image(path))[..., 0].astype(int) - GREY).max() == 0


@pytest.mark.parametrize("values", [GREY.astype(np.int32) * 257, GREY.astype(np.float32) / 255, GREY.astype(np.float32)])
def test_values_of_unknown_range_are_refused(values, tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    for read in (read_image, probe_image):
        with pytest.raises(UserError, match=f"cannot read the image {path}: it holds .* nothing says which of them is white"):
            read(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_eight_bit_modes_are_read(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 4)).save(path)
    assert read_image(path).mode == "RGB"


@pytest.mark.parametrize("white", [0, 1])
def test_twelve_bits_and_zero_as_white(white, tmp_path):
    """A TIFF file says how many bits its values have, and whether 0 is white."""
    path = tmp_path / "a.tif"
    values = GREY if white else 255 - GREY
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[258], tags[262] = 16, white
    Image.fromarray(values.astype(np.uint16) * 257).save(path, tiffinfo=tags)
    with Image.open(path) as img:
        if img.tag_v2[262] != white:
            pytest.skip("this version of Pillow doesn't write such files")
    assert np.abs(np.asarray(read_image(path))[..., 0].astype(int) - GREY).max() == 0


@pytest.mark.parametrize("mode, colour, transparent", [
    ("RGBA", (1, 2, 3, 0), True), ("RGBA", (1, 2, 3, 255), False), ("LA", (1, 0), True), ("RGB", (1, 2, 3), False),
])  # fmt: skip
def test_transparency_is_noticed(mode, colour, transparent, tmp_path):
    Image.new(mode, (4, 4), colour).save(tmp_path / "a.png")
    assert probe_image(tmp_path / "a.png") == (False, transparent)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    """The pixel that EXIF calls the top left is there after turning, as in Pillow's own ``exif_transpose``."""
    from PIL import ImageOps

    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)).save(path, exif=exif)
    assert np.array_equal(read_image(path), Image.open(path))
    assert np.array_equal(read_image(path, upright=True), ImageOps.exif_transpose(Image.open(path)))
    assert probe_image(path)[0] is (orientation in _UPRIGHT)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "FITS"])
def test_other_formats_are_not_opened_whatever_their_name(kind, tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript."""
    path = tmp_path / "photo.jpg"
    if kind == "FITS":
        path.write_bytes(b"SIMPLE  =                    T".ljust(2880))
    else:
        Image.new("RGB", (16, 16), "red").save(path, kind)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a program"))
    for function in (read_image, probe_image, is_turned):
        with pytest.raises(UserError, match="cannot read the image .*photo.jpg: cannot identify"):
            function(path)


def test_a_pipe_among_images_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    for path in (tmp_path / "photo.jpg", tmp_path, "/dev/zero"):
        with pytest.raises(UserError, match="it is no file"):
            read_image(path)


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_unreadable(content, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-300] if content is None else content)
    for read in (read_image, probe_image):
        with pytest.raises(UserError, match=str(path)):
            read(path)


@pytest.fixture
def item(image_root):
    path = str(image_root / "test_0_0.png")
    return lambda label, name="x": Datum(path, label, 0, name)


@pytest.mark.parametrize("train, test, words", [
    ([1, 2], [1, 2], "but are 1, 2: none has label 0"),
    ([0, 2], [0], "but are 0, 2: none has label 1"),
    ([0, -1], [0], "but are -1, 0: none has label 1"),
    (["0", "1"], [0], "labels are whole numbers from 0, but there is '0'"),
    ([True, False], [0], "but there is True"),
    ([0, 1], [2], "a test image has label 2, which no training image has"),
])  # fmt: skip
def test_labels_of_a_dataset_class(train, test, words, item):
    with pytest.raises(UserError) as error:
        DatasetBase(train_x=[item(label) for label in train], test=[item(label) for label in test])
    assert words in str(error.value)


def test_one_label_has_one_name(item):
    with pytest.raises(UserError, match="label 0 is called 'cat', but 'dog' for the test image"):
        DatasetBase(train_x=[item(0, "cat"), item(1, "dog")], test=[item(0, "dog")])
