"""The world that the built-in model is pre-trained on: scenes of objects, digits, letters, textures, and captions.

`batch(seed, step, size)` is a function of its arguments: a run can be interrupted and repeated. A caption follows one
of CLIP's template phrases, names the thing in it, and often its colour and texture; the phrase mostly names the style
that was applied.
"""

from dataclasses import dataclass

import numpy as np

from .atlas import load_atlas
from .render import FULL_FRAME, NOTHING, Pose, Scenes, render
from .shapes import DIGIT_NAMES, LETTER_NAMES
from .styles import STYLE_ID, STYLES

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (235, 215, 40),
    "orange": (240, 140, 30),
    "purple": (130, 50, 180),
    "pink": (245, 140, 180),
    "brown": (125, 80, 45),
    "gray": (128, 128, 128),
    "black": (25, 25, 25),
    "white": (240, 240, 240),
    "cyan": (60, 205, 215),
}
COLOUR_NAMES = list(COLOURS)
RGB = np.array(list(COLOURS.values()), np.float32) / 255
WHITE, BLACK = COLOUR_NAMES.index("white"), COLOUR_NAMES.index("black")

OBJECT, DIGIT, LETTER, TEXTURE = range(4)
KIND_SHARES = (0.64, 0.14, 0.08, 0.14)
OBJECT_NAMES = [n for n in load_atlas().sprites if n not in DIGIT_NAMES + LETTER_NAMES]
NAMES = OBJECT_NAMES + DIGIT_NAMES + LETTER_NAMES  # everything that has a mask
PATTERN_NAMES = [n for n in load_atlas().textures if n != "plain" and not n.startswith("_")]
PLAIN = NO_LABEL = -1

PHRASES = {
    "photo": [
        "a photo of a {}",
        "a photo of the {}",
        "a picture of a {}",
        "an image of a {}",
        "{}",
        "a {}",
        "the {}",
        "this is a {}",
        "itap of a {}",
        "a photo of one {}",
        "there is a {} in the scene",
    ],
    "blurry": ["a blurry photo of a {}", "a blurry photo of the {}", "a blurry image of a {}", "an out of focus {}"],
    "low resolution": ["a low resolution photo of a {}", "a low resolution photo of the {}", "a low resolution image of a {}"],
    "pixelated": ["a pixelated photo of a {}", "a pixelated photo of the {}", "a pixelated {}"],
    "sketch": ["a sketch of a {}", "a drawing of a {}", "a sketch of the {}", "a drawing of the {}", "a doodle of a {}"],
    "bright": ["a bright photo of a {}", "a bright photo of the {}", "a bright {}"],
    "dark": ["a dark photo of the {}", "a dark photo of a {}", "a photo of a {} at night"],
    "black and white": ["a black and white photo of a {}", "a black and white photo of the {}", "a monochrome {}"],
    "close-up": ["a close-up photo of a {}", "a close-up photo of the {}"],
    "cropped": ["a cropped photo of a {}", "a cropped photo of the {}"],
    "many": ["a photo of many {}s", "many {}s", "a photo of {}s", "several {}s"],
    "large": ["a photo of the large {}", "a photo of a large {}", "a big {}"],
    "small": ["a photo of the small {}", "a photo of a small {}", "a tiny {}"],
    "good": ["a good photo of a {}", "a good photo of the {}", "a photo of the nice {}"],
    "bad": ["a bad photo of a {}", "a bad photo of the {}", "a noisy photo of a {}"],
    "jpeg": ["a jpeg corrupted photo of a {}", "a jpeg corrupted photo of the {}"],
    "painting": ["a painting of a {}", "a painting of the {}", "art of the {}"],
    "cartoon": ["a cartoon {}", "the cartoon {}", "a cartoon of a {}"],
    "origami": ["a origami {}", "the origami {}"],
    "video game": ["a {} in a video game", "the {} in a video game"],
}
OBJECT_STYLES = [STYLE_ID[s] for s in ("close-up", "cropped", "many", "large", "small", "sketch", "cartoon")]
COLOURLESS = [STYLE_ID[s] for s in ("black and white", "sketch")]


@dataclass
class Facts:
    """What is true of n scenes, as arrays [n]."""

    kind: np.ndarray
    name: np.ndarray  # index into NAMES; NO_LABEL for a texture
    style: np.ndarray
    pattern: np.ndarray  # index into PATTERN_NAMES, or PLAIN
    colour: np.ndarray  # index into COLOUR_NAMES
    back_colour: np.ndarray
    distractor: np.ndarray  # index into OBJECT_NAMES, or NOTHING


def invent(rng, n, photo_share):
    """Draw the facts of n scenes; `photo_share` of them in the style "photo"."""
    kind = rng.choice(4, n, p=KIND_SHARES)
    digit0, letter0 = len(OBJECT_NAMES), len(OBJECT_NAMES) + len(DIGIT_NAMES)
    names = [rng.integers(0, digit0, n), rng.integers(digit0, letter0, n), rng.integers(letter0, len(NAMES), n)]
    name = np.select([kind == OBJECT, kind == DIGIT, kind == LETTER], names, NO_LABEL)
    style = np.where(rng.random(n) < photo_share, STYLE_ID["photo"], rng.integers(1, len(STYLES), n))
    style = np.where((kind == TEXTURE) & np.isin(style, OBJECT_STYLES), STYLE_ID["photo"], style)
    plain = (rng.random(n) < np.where(kind == OBJECT, 0.55, 0.85)) & (kind != TEXTURE)
    pattern = np.where(plain, PLAIN, rng.integers(0, len(PATTERN_NAMES), n))
    colour = rng.integers(0, len(COLOURS), n)
    back_colour = (colour + rng.integers(1, len(COLOURS), n)) % len(COLOURS)
    distractor = np.where((rng.random(n) < 0.3) & (kind != TEXTURE), rng.integers(0, len(OBJECT_NAMES), n), NOTHING)
    # Some digits as a scanner sees them: a coarse white stroke on black, and nothing else.
    scan = (kind == DIGIT) & (rng.random(n) < 0.1)
    return Facts(
        kind,
        name,
        np.where(scan, STYLE_ID["low resolution"], style),
        np.where(scan, PLAIN, pattern),
        np.where(scan, WHITE, colour),
        np.where(scan, BLACK, back_colour),
        np.where(scan, NOTHING, distractor),
    )


def any_of(rng, rows, names):
    """One random row of the atlas for every name; a name of None is FULL_FRAME."""
    return np.array([FULL_FRAME if n is None else rows[n][rng.integers(len(rows[n]))] for n in names])


def stage(rng, facts):
    """Choose what the facts leave open: variants, shades, second colours, backgrounds. Returns Scenes."""
    atlas, n = load_atlas(), len(facts.kind)

    def shades(index):
        return np.clip(RGB[index] + rng.normal(0, 0.05, (n, 3)), 0, 1).astype(np.float32)

    sprite = any_of(rng, atlas.sprites, [None if i == NO_LABEL else NAMES[i] for i in facts.name])
    texture = any_of(rng, atlas.textures, ["plain" if i == PLAIN else PATTERN_NAMES[i] for i in facts.pattern])
    back_pattern = np.where(rng.random(n) < 0.6, PLAIN, rng.integers(0, len(PATTERN_NAMES), n))
    back_texture = any_of(rng, atlas.textures, ["plain" if i == PLAIN else PATTERN_NAMES[i] for i in back_pattern])
    first, second = shades(facts.colour), shades(rng.integers(0, len(COLOURS), n))
    second = np.where((facts.pattern == PLAIN)[:, None], first, second)
    back = shades(facts.back_colour)
    back2 = np.clip(back + rng.normal(0, 0.12, (n, 3)), 0, 1).astype(np.float32)
    scale = np.where(facts.kind == TEXTURE, rng.uniform(0.7, 1.3, n), rng.uniform(0.9, 1.5, n))
    # Objects come first in the atlas, one mask each: a distractor's index is its row.
    return Scenes(
        sprite,
        facts.style,
        texture,
        scale,
        (first, second),
        back_texture,
        (back, back2),
        facts.distractor,
        shades(rng.integers(0, len(COLOURS), n)),
    )


def noun(rng, kind, name, pattern, colour, coloured):
    """How one thing is called, with its adjectives: "red striped house", "the blue digit three", "cracked surface"."""
    chance = rng.random(4)
    words = [COLOUR_NAMES[colour]] if coloured and chance[0] < 0.3 else []
    if kind == TEXTURE:
        words += [PATTERN_NAMES[pattern]] if chance[1] < 0.95 else []
        return " ".join(words + ["texture" if chance[2] < 0.5 else "surface" if chance[2] < 0.75 else "pattern"])
    if pattern != PLAIN and chance[1] < 0.6:
        words.append(PATTERN_NAMES[pattern])
    elif pattern == PLAIN and chance[1] < 0.05:
        words.append("plain")
    words.append(NAMES[name])
    if kind == DIGIT:
        words[-1] = words[-1] if chance[3] < 0.7 else str(DIGIT_NAMES.index(words[-1]))
        words[-1] = "digit " + words[-1] if chance[2] < 0.4 else "number " + words[-1] if chance[2] < 0.7 else words[-1]
    definite = kind == DIGIT and chance[2] < 0.7 or kind == LETTER and chance[2] < 0.5
    return " ".join(["the"] + words if definite else words)


def caption(rng, facts, i):
    """One sentence about scene i."""
    kind, style = facts.kind[i], facts.style[i]
    thing = noun(rng, kind, facts.name[i], facts.pattern[i], facts.colour[i], style not in COLOURLESS)
    phrases = PHRASES[STYLES[style]] if rng.random() < 0.6 else PHRASES["photo"]
    text = phrases[rng.integers(len(phrases))].format(thing).replace("a the", "the").replace("the the", "the")
    extra = rng.random()
    if kind != TEXTURE and extra < 0.08:
        text += f" on a {COLOUR_NAMES[facts.back_colour[i]]} background"
    elif facts.distractor[i] != NOTHING and extra < 0.25:
        text += f" and a {OBJECT_NAMES[facts.distractor[i]]}"
    return text + "." if rng.random() < 0.5 else text


def batch(seed, step, size, photo_share=0.45):
    """Batch number `step`: images uint8 [size, 48, 48, 3], captions, labels (int64 [size], NO_LABEL for none)."""
    rng = np.random.default_rng([seed, step])
    facts = invent(rng, size, photo_share)
    images = render(rng, stage(rng, facts), Pose(warp=0.08))
    captions = [caption(rng, facts, i) for i in range(size)]
    labels = {
        "name": facts.name,
        "pattern": facts.pattern,
        "style": facts.style,
        "colour": np.where(np.isin(facts.style, COLOURLESS), NO_LABEL, facts.colour),
    }
    return images, captions, labels


def words():
    """Every word that a caption can hold, with the endings that change how it is cut into tokens."""
    things = NAMES + PATTERN_NAMES + COLOUR_NAMES + [str(i) for i in range(10)]
    things += ["texture", "surface", "pattern", "plain", "digit", "number", "on a background and"]
    phrases = [p.format("x") for group in PHRASES.values() for p in group]
    return phrases + [thing + end for thing in things for end in ("", "s", ".", "s.")]
