"""The one reader of image files: what training, prediction and checks see is the same."""

import os
import stat

import numpy as np
from PIL import Image, UnidentifiedImageError

from basics import UserError

__all__ = ["READER", "as_rgb", "is_turned", "probe_image", "read_image"]

READER = 2  # raised when the same file gives other pixels, so that kept features are not used any more

_EXIF_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262  # bits of a value; 0: 0 is white
_UPRIGHT = {  # EXIF orientation: what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow also opens files that it hands to other programs (PostScript to Ghostscript), whatever their name
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000")
_EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}


def read_image(path, upright=False):
    """Return the image file as a PIL image in RGB, 8 bits a channel; 16-bit grey is scaled.

    Args:
        path: the file.
        upright: turn it as its EXIF orientation says; published code of this family doesn't.

    Raises:
        UserError: the file is missing, can't be decoded, or has values whose range nothing says (32-bit, floating point).
    """
    with _opened(path) as img:
        return as_rgb(img, path, upright)


def as_rgb(img, name, upright=False):
    """``read_image`` of an open PIL image; ``name`` says which one in messages."""
    _check_mode(img, name)
    rgb = _sixteen_bits(img).convert("RGB") if _is_sixteen_bits(img) else img.convert("RGB")
    turn = _UPRIGHT.get(_orientation(img)) if upright else None
    return rgb if turn is None else rgb.transpose(turn)


def is_turned(path):
    """Whether an image file's EXIF orientation says that it is to be turned. UserError: the file can't be opened."""
    with _opened(path) as img:
        return _orientation(img) in _UPRIGHT


def probe_image(path):
    """Decode an image file as cheaply as shows whether ``read_image`` can read it.

    Returns:
        (whether EXIF turns it, whether it has transparent parts, which ``read_image`` drops).
    """
    with _opened(path) as img:
        _check_mode(img, path)
        oriented = _orientation(img) in _UPRIGHT
        img.draft("RGB", (1, 1))  # a JPEG at an eighth of its size
        img.load()
        return oriented, _is_transparent(img)


def _is_transparent(img):
    if img.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return img.getchannel(img.mode[-1]).getextrema()[0] < 255
    return "transparency" in img.info


class _opened:
    """``Image.open`` whose errors, and those of decoding in the block, are the user's."""

    def __init__(self, path):
        self.path = path
        self.img = None

    def __enter__(self):
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise UserError(f"cannot read the image {self.path}: it is no file (a pipe, a folder or a device)")
            self.img = Image.open(self.path, formats=FORMATS)
        except Exception as e:
            self._explain(e)
            raise
        return self.img

    def __exit__(self, kind, error, traceback):
        self.img.close()
        if error is not None:
            self._explain(error)

    def _explain(self, error):
        if isinstance(error, FileNotFoundError):
            raise UserError(f"image not found: {self.path}") from error
        if isinstance(error, (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)):
            raise UserError(f"cannot read the image {self.path}: {error}") from error


def _check_mode(img, path):
    if img.mode not in _EIGHT_BITS and not _is_sixteen_bits(img):
        kind = {"I": "32-bit whole numbers", "F": "floating-point numbers"}.get(img.mode, f"values of the kind {img.mode}")
        raise UserError(
            f"cannot read the image {path}: it holds {kind}, and nothing says which of them is white; save it with 8 or 16 bits"
        )


def _is_sixteen_bits(img):
    """PNG and PGM have no more than 16 bits; older versions of Pillow open such files as 32-bit images."""
    return img.mode.startswith("I;16") or (img.mode == "I" and img.format in ("PNG", "PPM"))


def _sixteen_bits(img):
    """The 8-bit image of one with up to 16 bits: its largest possible value, or in some TIFF files 0, becomes 255."""
    tags = getattr(img, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (16,))[0]
    values = np.asarray(img).astype(np.float64) * 255 / (2**bits - 1)
    if tags.get(_TIFF_PHOTOMETRIC) == 0:
        values = 255 - values
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _orientation(img):
    try:
        value = img.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged metadata of a readable image
        return 1
    return value if isinstance(value, int) else 1
