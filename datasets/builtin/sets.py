"""The images of the built-in sets: digits (real handwriting), letters, shapes, textures, and letters in other styles.

What makes a set informative for prompt learning is a shift that is systematic: all images of letters, shapes and
textures share a palette, a pose and lighting that pre-training never showed together, and every class keeps one bent
prototype of its own. Then a linear probe on 16 images a class is well above zero-shot, and prompts have something to
gain. Noise per image would only blur both.

Images are a function of the set's name; `pixels.py` holds their hashes.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from .atlas import CELL, load_atlas
from .captions import OBJECT_NAMES, PATTERN_NAMES
from .pixels import PIXELS as PIXELS
from .render import FULL_FRAME, NOTHING, SIDE, F, Pose, Scenes, render, sample_masks
from .shapes import DIGIT_NAMES, LETTER_NAMES
from .styles import POSED, STYLE_ID, STYLES

TRAIN, VAL, TEST = 40, 8, 30  # images per class of a drawn set; train is a pool that few-shot samples are drawn from
STYLE_TEST = 20  # images per class of a test-only set
DIGITS_TRAIN, DIGITS_VAL = 50, 10  # of about 180 per class; the rest is for testing
DIGIT_PIXEL = 5  # side of a digit's pixel
CHALK, BOARD = (0.9, 0.9, 0.8), (0.1, 0.3, 0.2)
PHOTO_SHARE = 0.7  # the other images of a drawn set have one of the other styles
CLASS_SEED = 99  # seed of the classes' prototypes

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Shift:
    """What all images of a drawn set have in common. Colours are means; they vary by .08 from image to image."""

    colours: tuple
    back_colours: tuple
    pose: Pose
    texture_scale: tuple
    warp: float = 0.0  # how far a class's prototype is bent


OBJECT_COLOURS = ((0.95, 0.75, 0.25), (0.75, 0.25, 0.35)), ((0.12, 0.2, 0.3), (0.3, 0.4, 0.35))
OBJECT_POSE = Pose(rotation=12, scale=(0.5, 0.75), shift=0.2, shear=0.08)
LETTER_SHIFT = Shift(*OBJECT_COLOURS, OBJECT_POSE, (0.6, 1.2), warp=0.15)
SHAPE_SHIFT = Shift(*OBJECT_COLOURS, OBJECT_POSE, (0.6, 1.2), warp=0.16)
TEXTURE_SHIFT = Shift(
    ((0.8, 0.7, 0.5), (0.35, 0.25, 0.2)),
    ((0.8, 0.7, 0.5), (0.8, 0.7, 0.5)),
    Pose(rotation=20, scale=(0.6, 0.8), shear=0.3),
    (1.1, 1.5),
)

DIGIT_CLASSES = sorted(DIGIT_NAMES)  # alphabetical, as in every set
SHAPE_NAMES = sorted(OBJECT_NAMES)[:30]
TEXTURE_NAMES = sorted(PATTERN_NAMES)


def bent_prototypes(names, warp, rotation=22.0, aspect=0.8, shear=0.2):
    """One new mask per class, [n, 66, 66]: leaning as all of its set do, and bent in a way of its own."""
    axis = (np.arange(CELL) + 0.5) / CELL * 2 - 1
    x, y = np.meshgrid(axis, axis)
    c, s = np.cos(np.deg2rad(rotation)) * 1.1, np.sin(np.deg2rad(rotation)) * 1.1
    masks = []
    for i, name in enumerate(names):
        rng = np.random.default_rng([CLASS_SEED, i])
        k, phase = rng.uniform(2.5, 4.5, 2), rng.uniform(0, 2 * np.pi, 2)
        u, v = (c * x + s * y) / aspect, (c * y - s * x) * aspect
        u = u + shear * v
        u, v = u + warp * np.sin(k[0] * v + phase[0]), v + warp * np.sin(k[1] * u + phase[1])
        row = load_atlas().sprites[name][:1]
        masks.append(sample_masks(row, u.reshape(1, -1).astype(F), v.reshape(1, -1).astype(F)).reshape(CELL, CELL))
    return np.pad(np.stack(masks), ((0, 0), (1, 1), (1, 1)))


def near(rng, colours, n):
    """Two colours [n, 3] close to the given two."""
    return tuple(np.clip(np.array(c) + rng.normal(0, 0.08, (n, 3)), 0, 1).astype(F) for c in colours)


def mixed_styles(rng, n, style, without=()):
    """[n] style ids: all of `style`, or where that is None mostly photos."""
    if style is not None:
        return np.full(n, STYLE_ID[style])
    others = [i for i, s in enumerate(STYLES) if s != "photo" and s not in without]
    return np.where(rng.random(n) < PHOTO_SHARE, STYLE_ID["photo"], rng.choice(others, n))


def tile_rows(rng, names):
    return np.array([rng.choice(load_atlas().textures[name]) for name in names])


def draw_objects(rng, labels, names, shift, style=None):
    """Images uint8 [n, 48, 48, 3] of bent prototypes before clouds."""
    n = len(labels)
    distractor = np.where(rng.random(n) < 0.2, rng.integers(0, len(OBJECT_NAMES), n), NOTHING)
    atlas_size = len(load_atlas().masks)
    masks = np.concatenate([load_atlas().masks, bent_prototypes(names, shift.warp)])
    scenes = Scenes(
        atlas_size + labels,
        mixed_styles(rng, n, style),
        tile_rows(rng, ["_ramp"] * n),
        rng.uniform(*shift.texture_scale, n),
        near(rng, shift.colours, n),
        tile_rows(rng, ["_clouds"] * n),
        near(rng, shift.back_colours, n),
        distractor,
        rng.random((n, 3)).astype(F),
    )
    return render(rng, scenes, shift.pose, masks)


def draw_textures(rng, labels, names, shift, style=None):
    """Images uint8 [n, 48, 48, 3] that a texture fills."""
    n = len(labels)
    style = mixed_styles(rng, n, style, (*POSED, "sketch", "cartoon"))
    scenes = Scenes(
        np.full(n, FULL_FRAME),
        style,
        tile_rows(rng, [names[i] for i in labels]),
        rng.uniform(*shift.texture_scale, n),
        near(rng, shift.colours, n),
        tile_rows(rng, ["plain"] * n),
        near(rng, shift.back_colours, n),
        np.full(n, NOTHING),
        np.zeros((n, 3), F),
    )
    return render(rng, scenes, shift.pose)


def drawn_set(draw, names, shift, seed, style=None, sizes=(TRAIN, VAL, TEST)):
    """Part -> (images, labels) of a drawn set."""
    parts = {}
    for i, (part, size) in enumerate(zip(PARTS, sizes)):
        labels = np.repeat(np.arange(len(names)), size)
        rng = np.random.default_rng([seed, i])
        images = draw(rng, labels, names, shift, style) if size else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        parts[part] = (images, labels)
    return parts


def chalk_digits():
    """Part -> (images, labels) of scikit-learn's 1,797 handwritten digits.

    Each of the 8 x 8 grey pixels is a square of 5 x 5, chalk on a green board: nothing is interpolated, and the set
    has a palette of its own like the others.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    border = (SIDE - 8 * DIGIT_PIXEL) // 2
    ink = (digits.images / 16).repeat(DIGIT_PIXEL, 1).repeat(DIGIT_PIXEL, 2)
    ink = np.pad(ink, ((0, 0), (border, border), (border, border)))[..., None]
    images = ((ink * np.array(CHALK) + (1 - ink) * np.array(BOARD)) * 255).astype(np.uint8)
    labels = np.array([DIGIT_CLASSES.index(name) for name in DIGIT_NAMES])[digits.target]
    ends = (0, DIGITS_TRAIN, DIGITS_TRAIN + DIGITS_VAL, None)
    rows = [np.flatnonzero(labels == c) for c in range(10)]
    chosen = [np.concatenate([r[a:b] for r in rows]) for a, b in zip(ends, ends[1:])]
    return {part: (images[i], labels[i]) for part, i in zip(PARTS, chosen)}


CLASSES = {"digits": DIGIT_CLASSES, "letters": LETTER_NAMES, "shapes": SHAPE_NAMES, "textures": TEXTURE_NAMES}
LETTER_STYLES = ("sketch", "dark", "blurry", "painting")
CLASSES |= {f"letters_{style}": LETTER_NAMES for style in LETTER_STYLES}


def make(name):
    """All images of a set.

    Returns:
        {"train": (images uint8 [n, 48, 48, 3], labels int [n]), "val": ..., "test": ...}; a test-only set has empty
        train and val. Labels count through `CLASSES[name]`.
    """
    if name == "digits":
        return chalk_digits()
    if name == "letters":
        return drawn_set(draw_objects, LETTER_NAMES, LETTER_SHIFT, seed=1)
    if name == "shapes":
        return drawn_set(draw_objects, SHAPE_NAMES, SHAPE_SHIFT, seed=2)
    if name == "textures":
        return drawn_set(draw_textures, TEXTURE_NAMES, TEXTURE_SHIFT, seed=3)
    style = name.removeprefix("letters_")
    return drawn_set(draw_objects, LETTER_NAMES, LETTER_SHIFT, 4 + LETTER_STYLES.index(style), style, (0, 0, STYLE_TEST))


def pixel_hash(parts):
    """Hash of a set's pixels and labels, as hexadecimal text."""
    digest = hashlib.sha256()
    for part in PARTS:
        images, labels = parts[part]
        digest.update(images.tobytes())
        digest.update(labels.astype(np.uint8).tobytes())
    return digest.hexdigest()
