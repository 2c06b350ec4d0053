"""The renderer: arrays that describe n scenes in, n images of 48 x 48 pixels out; about 1,500 a second.

One object (a mask of the atlas, filled with a texture in two colours) lies on a textured background, perhaps with a
small distractor near the border; then the scene's style is applied. Everything random comes from the generator that
is passed in.
"""

from dataclasses import dataclass

import numpy as np

from .atlas import CELL, load_atlas
from .styles import STYLE_ID, apply_styles

SIDE = 48
F = np.float32
_axis = ((np.arange(SIDE) + 0.5) / SIDE * 2 - 1).astype(F)
GRID_X, GRID_Y = np.tile(_axis, SIDE)[None], np.repeat(_axis, SIDE)[None]  # [1, 2304] pixel centres in -1..1
FULL_FRAME = -1  # as a sprite: the texture fills the image
NOTHING = -1  # as a distractor


@dataclass
class Scenes:
    """n scenes. Colours are float32 [n, 3] in 0..1; a texture t mixes two colours as c1 t + c2 (1 - t)."""

    sprite: np.ndarray  # [n] row of the atlas' masks, or FULL_FRAME
    style: np.ndarray  # [n] index into STYLES
    texture: np.ndarray  # [n] row of the atlas' tiles
    texture_scale: np.ndarray  # [n] tiles across the object
    colours: tuple  # two colours of the object
    back_texture: np.ndarray  # [n]
    back_colours: tuple  # two colours of the background
    distractor: np.ndarray  # [n] row of the masks, or NOTHING
    distractor_colour: np.ndarray  # [n, 3]


@dataclass(frozen=True)
class Pose:
    """How much objects vary; uniform in these limits."""

    rotation: float = 20.0  # degrees to either side
    scale: tuple = (0.45, 0.75)  # half the object's side, of the image's half side
    shift: float = 0.25
    shear: float = 0.15  # also of the logarithm of the aspect ratio
    warp: float = 0.0  # amplitude of a sine wave across the object, of its half side
    noise: float = 0.02  # deviation of the pixel noise


def column(values):
    return np.asarray(values, F)[:, None]


def sample_masks(rows, u, v, masks=None):
    """Bilinear look-up in the atlas' masks (or `masks`, [m, 66, 66]) at u, v in -1..1 (0 outside). [n, pixels]"""
    masks = load_atlas().masks if masks is None else masks
    side = masks.shape[1]
    x = np.clip((u * F(0.5) + F(0.5)) * F(CELL) + F(0.5), 0, F(CELL + 0.999))
    y = np.clip((v * F(0.5) + F(0.5)) * F(CELL) + F(0.5), 0, F(CELL + 0.999))
    i, j = x.astype(np.int32), y.astype(np.int32)
    a, b = x - i, y - j
    flat = masks.ravel()
    corner = (np.asarray(rows, np.int64) * side * side)[:, None] + j * side + i

    def at(offset):
        return flat.take(corner + offset, mode="clip")

    return (at(0) * (1 - a) + at(1) * a) * (1 - b) + (at(side) * (1 - a) + at(side + 1) * a) * b


def sample_tiles(rows, u, v):
    """Nearest look-up in the atlas' periodic tiles; one unit of u, v is one tile. [n, pixels]"""
    i, j = np.floor(u * CELL).astype(np.int32) & (CELL - 1), np.floor(v * CELL).astype(np.int32) & (CELL - 1)
    return load_atlas().tiles.ravel().take((np.asarray(rows) * CELL * CELL)[:, None] + j * CELL + i)


def mix(colours, t):
    """[n, pixels, 3] of two colours [n, 3] and t [n, pixels]."""
    t = t[..., None]
    return colours[0][:, None] * t + colours[1][:, None] * (1 - t)


def object_coordinates(rng, style, pose):
    """Where every pixel lies on its object, in the mask's -1..1: u, v, each [n, 2304]."""
    n = len(style)

    def styled(name):
        return style == STYLE_ID[name]

    scale = rng.uniform(*pose.scale, n)
    scale = np.where(styled("close-up"), rng.uniform(1.15, 1.5, n), scale)
    scale = np.where(styled("large"), rng.uniform(0.85, 1.0, n), scale)
    scale = np.where(styled("small"), rng.uniform(0.22, 0.34, n), scale)
    scale = np.where(styled("cropped"), np.maximum(scale, 0.65), scale)
    scale = np.where(styled("good"), 0.7, scale)
    centre = rng.uniform(-1, 1, (2, n)) * pose.shift
    towards = rng.uniform(0, 2 * np.pi, n)
    centre = np.where(styled("cropped"), 0.7 * np.stack([np.cos(towards), np.sin(towards)]), centre)
    centre = np.where(styled("good"), centre * 0.2, centre)
    angle = np.deg2rad(rng.uniform(-1, 1, n) * pose.rotation)
    angle = np.where(styled("good"), angle * 0.3, angle)
    aspect = np.exp(rng.uniform(-1, 1, n) * pose.shear)
    shear = rng.uniform(-1, 1, n) * pose.shear
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = GRID_X - column(centre[0]), GRID_Y - column(centre[1])
    u = column(c / aspect) * x + column(s / aspect) * y
    v = column(-s * aspect) * x + column(c * aspect) * y
    u = u + column(shear) * v
    if pose.warp:
        u, v = warped(rng, u, v, pose.warp)
    return tiled_where_many(rng, style, u, v)


def warped(rng, u, v, amplitude):
    """Bend the coordinates by one sine wave each way, of random strength, frequency and phase per image."""
    a = rng.uniform(0, amplitude, (2, len(u)))
    k = rng.uniform(2.0, 4.0, (2, len(u)))
    phase = rng.uniform(0, 2 * np.pi, (2, len(u)))
    u = u + column(a[0]) * np.sin(column(k[0]) * v + column(phase[0]))
    return u, v + column(a[1]) * np.sin(column(k[1]) * u + column(phase[1]))


def tiled_where_many(rng, style, u, v):
    """The style "many": two or three objects a side."""
    many = np.flatnonzero(style == STYLE_ID["many"])
    n = len(many)
    times = column(rng.integers(2, 4, n))
    for target, grid in ((u, GRID_X), (v, GRID_Y)):
        target[many] = (np.mod((grid + column(rng.uniform(-0.3, 0.3, n))) * times + 1, 2) - 1) * F(1.15)
    return u, v


def background(rng, scenes):
    """[n, 2304, 3]"""
    n = len(scenes.style)
    angle, scale = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.35, 0.7, n)
    c, s = column(np.cos(angle) * scale), column(np.sin(angle) * scale)
    offset = rng.random((2, n))
    t = sample_tiles(
        scenes.back_texture, c * GRID_X + s * GRID_Y + column(offset[0]), c * GRID_Y - s * GRID_X + column(offset[1])
    )
    return mix(scenes.back_colours, t)


def add_distractors(rng, image, scenes):
    """A small second object near the border, in place."""
    chosen = np.flatnonzero(scenes.distractor != NOTHING)
    n = len(chosen)
    angle, size, distance = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.2, 0.32, n), rng.uniform(0.7, 0.9, n)
    u = (GRID_X - column(distance * np.cos(angle))) / column(size)
    v = (GRID_Y - column(distance * np.sin(angle))) / column(size)
    mask = sample_masks(scenes.distractor[chosen], u, v)[..., None]
    image[chosen] = image[chosen] * (1 - mask) + scenes.distractor_colour[chosen][:, None] * mask


def render(rng, scenes, pose=Pose(), masks=None):
    """Paint the scenes. Returns uint8 [n, 48, 48, 3]. `masks` [m, 66, 66] takes the place of the atlas' masks."""
    n = len(scenes.style)
    u, v = object_coordinates(rng, scenes.style, pose)
    full = scenes.sprite == FULL_FRAME
    mask = sample_masks(np.where(full, 0, scenes.sprite), u, v, masks)  # [n, 2304]
    mask[full] = 1
    half = column(scenes.texture_scale) * F(0.5)
    image = background(rng, scenes)
    add_distractors(rng, image, scenes)
    mask_ = mask[..., None]
    image = image * (1 - mask_) + mix(scenes.colours, sample_tiles(scenes.texture, u * half, v * half)) * mask_
    image = image.astype(F, copy=False).reshape(n, SIDE, SIDE, 3)
    image = apply_styles(image, mask.reshape(n, SIDE, SIDE), scenes.style, rng)
    image = image + rng.normal(0, pose.noise, image.shape).astype(F)
    return (np.clip(image, 0, 1) * 255 + F(0.5)).astype(np.uint8)
