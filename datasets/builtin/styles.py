"""The 20 photographic and drawn styles that CLIP's template phrases name, as functions on small images.

A style either poses the object (`POSED`, in `render`) or changes the finished image: `f(images, masks, rng)`, images
float32 [n, 48, 48, 3] and masks float32 [n, 48, 48] in 0..1. Sums are spelled out instead of left to a matrix
product, whose order of summation differs between machines: the same seed gives the same pixels everywhere.
"""

import numpy as np

STYLES = (
    "photo",
    "blurry",
    "low resolution",
    "pixelated",
    "sketch",
    "bright",
    "dark",
    "black and white",
    "close-up",
    "cropped",
    "many",
    "large",
    "small",
    "good",
    "bad",
    "jpeg",
    "painting",
    "cartoon",
    "origami",
    "video game",
)
STYLE_ID = {name: i for i, name in enumerate(STYLES)}
POSED = ("close-up", "cropped", "many", "large", "small", "good")


def grey(images):
    return images[..., 0] * np.float32(0.3) + images[..., 1] * np.float32(0.59) + images[..., 2] * np.float32(0.11)


def blur(images, sigma):
    """Gaussian blur with a 9-pixel kernel."""
    offsets = np.arange(-4, 5)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    side = images.shape[1]
    for axis in (1, 2):
        padded = np.pad(images, [(4, 4) if i == axis else (0, 0) for i in range(4)], mode="edge")
        images = sum(w * padded[(slice(None),) * axis + (slice(i, i + side),)] for i, w in enumerate(weights))
    return images


def blocks(images, size):
    """Replace every block of size x size pixels by its mean."""
    n, side = images.shape[:2]
    small = images.reshape(n, side // size, size, side // size, size, 3).mean((2, 4))
    return small.repeat(size, 1).repeat(size, 2)


def posterise(images, levels):
    return np.round(images * levels) / levels


def amount(rng, low, high, n):
    return rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)


def noise(rng, shape, sigma):
    return rng.normal(0, sigma, shape).astype(np.float32)


def sketch(images, masks, rng):
    """Dark outlines on paper: edges of the mask, and of what is inside."""

    def edges(a):
        return np.abs(np.diff(a, axis=1, prepend=a[:, :1])) + np.abs(np.diff(a, axis=2, prepend=a[:, :, :1]))

    ink = np.clip(edges(masks) * 1.6 + edges(grey(images)) * 0.8 * masks, 0, 1)
    paper = (0.96 - 0.85 * ink).astype(np.float32) + noise(rng, ink.shape, 0.03)
    return paper[..., None].repeat(3, -1)


def jpeg(images, masks, rng, step=0.16):
    """Coarsely quantised 8 x 8 cosine transform, as in a JPEG of low quality."""
    n, side = images.shape[:2]
    k = np.arange(8)
    dct = np.sqrt(2 / 8) * np.cos((2 * k[None] + 1) * k[:, None] * np.pi / 16)
    dct[0] /= np.sqrt(2)
    b = images.reshape(n, side // 8, 8, side // 8, 8, 3)
    c = np.einsum("ui,nyixjc->nyuxjc", dct, b, optimize=False)
    c = np.einsum("vj,nyuxjc->nyuxvc", dct, c, optimize=False)
    q = (step * (1 + k[:, None] + k[None]))[:, None, :, None]
    c = np.round(c / q) * q
    c = np.einsum("ui,nyuxvc->nyixvc", dct, c, optimize=False)
    b = np.einsum("vj,nyixvc->nyixjc", dct, c, optimize=False)
    return b.reshape(images.shape).astype(np.float32)


def cartoon(images, masks, rng):
    """Few flat colours and a black outline."""
    outline = (1 - np.abs(masks - 0.5) * 2 > 0.25)[..., None]
    return np.where(outline, np.float32(0), posterise(images, 3))


def origami(images, masks, rng):
    """Folded paper: four straight creases, every facet a little lighter or darker."""
    n, side = images.shape[:2]
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    shade = np.ones((n, side, side), np.float32)
    for _ in range(4):
        angle = rng.uniform(0, 2 * np.pi, n)
        a, b = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        across = a[:, None, None] * axis[None, None] + b[:, None, None] * axis[None, :, None]
        crease = rng.uniform(-0.5, 0.5, (n, 1, 1)).astype(np.float32)
        shade += np.where(across > crease, np.float32(0.18), np.float32(-0.18))
    return images * shade[..., None]


def video_game(images, masks, rng):
    """Big pixels in few colours."""
    return posterise(blocks(images, 3), 3)


IMAGE_STYLES = {
    "blurry": lambda x, m, rng: blur(x, 1.7),
    "low resolution": lambda x, m, rng: blur(blocks(x, 4), 1.4),
    "pixelated": lambda x, m, rng: blocks(x, 4),
    "sketch": sketch,
    "bright": lambda x, m, rng: np.clip(x * 0.75 + amount(rng, 0.35, 0.5, len(x)), 0, 1),
    "dark": lambda x, m, rng: x * amount(rng, 0.2, 0.4, len(x)),
    "black and white": lambda x, m, rng: grey(x)[..., None].repeat(3, -1),
    "bad": lambda x, m, rng: blur(x, 0.8) * 0.55 + 0.22 + noise(rng, x.shape, 0.1),
    "jpeg": jpeg,
    "painting": lambda x, m, rng: posterise(blur(x + noise(rng, x.shape, 0.12), 1.0), 6),
    "cartoon": cartoon,
    "origami": origami,
    "video game": video_game,
}


def apply_styles(images, masks, style, rng):
    """Change the images of every style in place. style: [n] index into STYLES."""
    for name, change in IMAGE_STYLES.items():
        chosen = np.flatnonzero(style == STYLE_ID[name])
        if len(chosen):
            images[chosen] = change(images[chosen], masks[chosen], rng)
    return images
