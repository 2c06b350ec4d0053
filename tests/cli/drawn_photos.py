"""Draws a folder of photographs of textiles as people have one: `python -m tests.cli.drawn_photos FOLDER`.

Six classes of 40 images under inventory numbers (`classnames.txt` says what they are), in several formats and spellings, some
turned by EXIF, and between them what isn't an image: notes, a raw photo, a file that broke off.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {
    "K01": "striped", "K02": "checkered", "K03": "dotted", "K04": "grid", "K05": "zigzagged", "K06 (old)": "woven"
}  # fmt: skip
PER_CLASS, SIDE = 40, 96
SUFFIXES = (".jpg", ".JPG", ".jfif", ".png", ".webp")
UPSIDE_DOWN = 3  # EXIF's number


def weave(name, rng):
    """[SIDE, SIDE] mask of a pattern with a scale, place and slant of its own."""
    period, slant = rng.integers(10, 20), rng.uniform(-0.15, 0.15)
    y, x = np.mgrid[:SIDE, :SIDE] + rng.integers(0, 20)
    u, v = (x + slant * y) / period, (y - slant * x) / period
    return {
        "striped": np.sin(2 * np.pi * u) > 0,
        "checkered": (np.floor(u) + np.floor(v)) % 2 > 0,
        "dotted": (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.09,
        "grid": (u % 1 < 0.2) | (v % 1 < 0.2),
        "zigzagged": (v + abs(u % 1 - 0.5)) % 0.8 < 0.4,
        "woven": np.where((np.floor(u) + np.floor(v)) % 2 > 0, u * 3 % 1 < 0.6, v * 3 % 1 < 0.6),
    }[name]


def photo(name, rng):
    """A PIL image of a pattern in two colours, with noise and a shadow."""
    dark, light = rng.uniform(0, 120, 3), rng.uniform(130, 255, 3)
    pixels = np.where(weave(name, rng)[..., None], light, dark) + rng.normal(0, 8, (SIDE, SIDE, 1))
    shadow = np.linspace(1, rng.uniform(0.6, 1), SIDE)[:, None, None]
    return Image.fromarray(np.clip(pixels * shadow, 0, 255).astype(np.uint8))


def draw(folder, per_class=PER_CLASS):
    """Fill a folder; what each function of a test counts stands in this module's docstring."""
    folder, rng = Path(folder), np.random.default_rng(5)
    for number, (inventory, name) in enumerate(CLASSES.items()):
        (folder / inventory).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            file, image = folder / inventory / f"IMG_{number}{i:03}{SUFFIXES[i % len(SUFFIXES)]}", photo(name, rng)
            exif = Image.Exif()
            if i % 10 == 0:
                exif[0x0112] = UPSIDE_DOWN
            image.save(file, format={".png": "PNG", ".webp": "WEBP"}.get(file.suffix, "JPEG"), exif=exif)
    (folder / "K01" / "notes.txt").write_text("washed 1987")
    (folder / "K02" / "IMG_1.heic").write_bytes(b"not for this program")
    (folder / "Thumbs.db").write_bytes(b"x")
    lines = [f"{inventory}\t{name}" for inventory, name in CLASSES.items()]
    (folder / "classnames.txt").write_text("# inventory number, what it is\n" + "\n".join(lines) + "\n")
    (folder / "templates.txt").write_text(
        "# the first one is what zero-shot CLIP and others read; the groups are MoCoOp's\n\n"
        "a photo of a {} texture.\na {} texture.\n\n"
        "# Bad photos\na blurry photo of a {} texture.\na dark photo of a {} texture.\n"
    )


if __name__ == "__main__":
    draw(sys.argv[1])
