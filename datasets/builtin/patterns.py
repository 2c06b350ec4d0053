"""Textures of the built-in world: periodic 64 x 64 grey tiles, six variants of each.

Like `shapes`, this runs only when the atlas is drawn anew. Names that start with "_" are backgrounds that no caption
names.
"""

import numpy as np

TILE = 64
VARIANTS = 6
TAU = 2 * np.pi


def sigmoid(z, slope):
    return 1 / (1 + np.exp(-slope * z))


def bumps(z, width):
    """Narrow bumps of height 1, one a period of z."""
    return np.exp(-(((np.mod(z, 1) - 0.5) / width) ** 2))


def fourier_noise(rng, low, high, falloff=1.0):
    """Periodic noise with frequencies from `low` to `high`, zero mean, unit deviation. [64, 64]"""
    f = np.fft.fftfreq(TILE) * TILE
    k = np.hypot(f[:, None], f[None])
    amplitude = ((k >= low) & (k <= high)) / np.maximum(k, 1) ** falloff
    z = np.fft.ifft2(amplitude * np.exp(1j * TAU * rng.random((TILE, TILE)))).real
    return (z - z.mean()) / z.std()


def cells(rng, count):
    """Periodic Voronoi cells: distances to all seeds, nearest first [count, 64, 64], and the nearest seed [64, 64]."""
    y, x = np.mgrid[0:TILE, 0:TILE]
    half = TILE / 2
    d = np.stack([np.hypot((x - a + half) % TILE - half, (y - b + half) % TILE - half) for a, b in rng.random((count, 2)) * TILE])
    return np.sort(d, 0), d.argmin(0)


def regular_tiles(variant):
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    f = 4 + variant % 3  # periods per tile
    banded = np.round(np.mod(x * 2, 1) * 3) / 3 if variant % 2 == 0 else np.round(2 * (np.sin(TAU * 2 * x) + 1)) / 4
    over = (np.floor(x * f * 2) + np.floor(y * f * 2)) % 2 == 0
    return {
        "plain": np.ones((TILE, TILE)),
        "striped": sigmoid(np.sin(TAU * f * x), 6),
        "lined": 1 - bumps(x * f, 0.09),
        "banded": banded,
        "checkered": sigmoid(np.sin(TAU * f * x) * np.sin(TAU * f * y), 12),
        "grid": 1 - np.maximum(bumps(x * f, 0.1), bumps(y * f, 0.1)),
        "dotted": sigmoid(0.3 - np.hypot(np.mod(x * f, 1) - 0.5, np.mod(y * f, 1) - 0.5), 25),
        "zigzagged": sigmoid(np.sin(TAU * (f * y + 1.8 * np.abs(np.mod(x * f, 1) - 0.5))), 6),
        "wavy": sigmoid(np.sin(TAU * (f * y + 0.35 * np.sin(TAU * 2 * x))), 6),
        "woven": np.where(over, 0.5 - 0.5 * np.cos(TAU * f * 2 * x), 0.5 - 0.5 * np.cos(TAU * f * 2 * y)),
        "scaly": np.hypot(np.mod(x * f + np.floor(y * f * 2) % 2 * 0.5, 1) - 0.5, np.mod(y * f * 2, 1) * 0.55) / 0.7,
        "bricked": 1 - np.maximum(bumps(y * f, 0.1), bumps(x * f + 0.5 * (np.floor(y * f + 0.5) % 2), 0.08)),
        "crosshatched": 1 - np.maximum(bumps((x + y) * f, 0.1), bumps((x - y) * f, 0.1)),
        "spiralled": sigmoid(np.sin(TAU * np.hypot(x - 0.5, y - 0.5) * f * 1.6 + np.arctan2(y - 0.5, x - 0.5)), 5),
        "_ramp": np.abs(2 * x - 1),
    }


def random_tiles(rng):
    x = np.mgrid[0:TILE, 0:TILE][1] / TILE
    few, owner = cells(rng, 26)
    many, _ = cells(rng, 50)
    return {
        "cracked": sigmoid(few[1] - few[0] - 2, 1.5),
        "crystalline": rng.random(26)[owner],
        "bubbly": many[0] / 6,
        "blotchy": sigmoid(fourier_noise(rng, 1, 5) - 0.2, 8),
        "flecked": sigmoid(fourier_noise(rng, 14, 30, 0) - 1.3, 6),
        "marbled": np.abs(np.sin(TAU * (1.5 * x + 0.5 * fourier_noise(rng, 1, 4, 1.5)))),
        "swirly": sigmoid(np.sin(1.25 * TAU * fourier_noise(rng, 2, 5)), 5),
        "_clouds": sigmoid(fourier_noise(rng, 1, 20, 1.6), 1.2),
        "_grain": sigmoid(fourier_noise(rng, 3, 12, 0.5), 1.5),
    }


def draw_all(seed=7):
    """Name -> six tiles (uint8 [64, 64])."""
    rng = np.random.default_rng(seed)
    tiles = {}
    for variant in range(VARIANTS):
        for name, z in {**regular_tiles(variant), **random_tiles(rng)}.items():
            tiles.setdefault(name, []).append(np.round(np.clip(z, 0, 1) * 255).astype(np.uint8))
    return tiles
