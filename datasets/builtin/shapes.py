"""Line drawings of the built-in world: objects, hand-written digits, letters; each becomes a 64 x 64 mask.

A drawing is a list of primitives in the square [-1, 1] x [-1, 1] (x to the right, y down), painted in order: a
primitive is `(kind, *arguments)`, and one whose kind starts with "cut " takes its area away again. Only `python -m
datasets.builtin.atlas` runs this code; everything else reads the committed atlas, so that fonts and rasterisers can't
change the data.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SPRITE = 64  # side of a mask
CANVAS = 256  # side of the canvas that a mask is drawn on before it is scaled down
TURN = 2 * math.pi

DIGIT_NAMES = "zero one two three four five six seven eight nine".split()
LETTER_NAMES = [f"letter {c}" for c in "abcdefghijklmnopqrstuvwxyz"]


def polygon(*points):
    return ("polygon", points)


def ellipse(x0, y0, x1, y1):
    return ("ellipse", (x0, y0, x1, y1))


def rect(x0, y0, x1, y1):
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def half_disc(x0, y0, x1, y1):
    """The upper half of the ellipse in the box."""
    return ("pie", (x0, y0, x1, y1), 180, 360)


def arc(x0, y0, x1, y1, start, end, width):
    return ("arc", (x0, y0, x1, y1), start, end, width)


def line(width, *points):
    return ("line", points, width)


def cut(primitive):
    return ("cut " + primitive[0], *primitive[1:])


def regular(corners, radius=1.0, start=-90.0, inner=None):
    """A regular polygon; with `inner` a star whose inner corners lie on that radius."""
    n = corners * (2 if inner else 1)
    radii = [inner if inner and i % 2 else radius for i in range(n)]
    angles = [math.radians(start + 360 * i / n) for i in range(n)]
    return polygon(*((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles)))


def closed_curve(point, steps=160):
    return polygon(*(point(TURN * i / steps) for i in range(steps)))


def bow(cx, cy, rx, ry, start, end, steps=24):
    """Points on an ellipse from one angle (degrees) to another."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def around(n, radius, start=0.0):
    return [(radius * math.cos(start + i * TURN / n), radius * math.sin(start + i * TURN / n)) for i in range(n)]


def geometric_drawings():
    heart = closed_curve(
        lambda t: (
            0.058 * 16 * math.sin(t) ** 3,
            -0.058 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
        )
    )
    spiral = [((0.05 + 0.068 * t) * math.cos(t), (0.05 + 0.068 * t) * math.sin(t)) for t in np.linspace(0, 12.6, 120)]
    return {
        "circle": [ellipse(-0.9, -0.9, 0.9, 0.9)],
        "square": [rect(-0.8, -0.8, 0.8, 0.8)],
        "triangle": [regular(3)],
        "pentagon": [regular(5)],
        "octagon": [regular(8, 0.95, -67.5)],
        "star": [regular(5, inner=0.4)],
        "cross": [rect(-0.28, -0.95, 0.28, 0.95), rect(-0.95, -0.28, 0.95, 0.28)],
        "heart": [heart],
        "moon": [ellipse(-0.9, -0.9, 0.9, 0.9), cut(ellipse(-0.35, -0.95, 1.3, 0.7))],
        "ring": [ellipse(-0.9, -0.9, 0.9, 0.9), cut(ellipse(-0.5, -0.5, 0.5, 0.5))],
        "arrow": [rect(-0.95, -0.22, 0.2, 0.22), polygon((0.1, -0.7), (0.98, 0), (0.1, 0.7))],
        "diamond": [polygon((0, -1), (0.6, 0), (0, 1), (-0.6, 0))],
        "egg": [closed_curve(lambda t: (0.68 * math.sin(t) * (1 - 0.2 * math.cos(t)), -0.95 * math.cos(t)))],
        "bar": [rect(-0.98, -0.3, 0.98, 0.3)],
        "dome": [half_disc(-0.95, -0.6, 0.95, 1.3)],
        "gear": [regular(9, inner=0.72), ellipse(-0.75, -0.75, 0.75, 0.75), cut(ellipse(-0.3, -0.3, 0.3, 0.3))],
        "spiral": [line(0.2, *spiral)],
        "hourglass": [polygon((-0.7, -0.95), (0.7, -0.95), (-0.7, 0.95), (0.7, 0.95))],
        "stairs": [
            polygon(
                (-0.9, 0.9),
                (-0.9, 0.45),
                (-0.45, 0.45),
                (-0.45, 0),
                (0, 0),
                (0, -0.45),
                (0.45, -0.45),
                (0.45, -0.9),
                (0.9, -0.9),
                (0.9, 0.9),
            )
        ],
    }


def natural_drawings():
    petals = [ellipse(x - 0.36, y - 0.36, x + 0.36, y + 0.36) for x, y in around(5, 0.546, -1.57)]
    rays = [line(0.12, (0.62 * x, 0.62 * y), (0.98 * x, 0.98 * y)) for x, y in around(8, 1.0)]
    return {
        "flower": petals + [cut(ellipse(-0.2, -0.2, 0.2, 0.2))],
        "lightning": [polygon((0.2, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.25), (0.05, -0.25))],
        "drop": [ellipse(-0.6, -0.15, 0.6, 0.98), polygon((0, -1), (0.56, 0.25), (-0.56, 0.25))],
        "leaf": [closed_curve(lambda t: (0.55 * math.sin(t) ** 3, -0.8 * math.cos(t) - 0.15), 80), rect(-0.06, 0.5, 0.06, 1)],
        "cloud": [
            ellipse(-0.95, -0.1, -0.15, 0.6),
            ellipse(-0.6, -0.6, 0.25, 0.4),
            ellipse(-0.05, -0.4, 0.65, 0.35),
            ellipse(0.3, -0.1, 0.95, 0.6),
            rect(-0.6, 0.2, 0.65, 0.6),
        ],
        "sun": [ellipse(-0.5, -0.5, 0.5, 0.5)] + rays,
        "tree": [rect(-0.13, 0.3, 0.13, 0.98), ellipse(-0.65, -0.95, 0.65, 0.45)],
        "pine": [
            rect(-0.12, 0.6, 0.12, 1),
            polygon((0, -1), (0.5, -0.3), (-0.5, -0.3)),
            polygon((0, -0.6), (0.65, 0.2), (-0.65, 0.2)),
            polygon((0, -0.2), (0.8, 0.7), (-0.8, 0.7)),
        ],
        "fish": [
            ellipse(-0.95, -0.45, 0.55, 0.45),
            polygon((0.35, 0), (0.98, -0.5), (0.98, 0.5)),
            cut(ellipse(-0.7, -0.2, -0.5, 0)),
        ],
        "mushroom": [half_disc(-0.95, -0.9, 0.95, 0.9), rect(-0.25, -0.05, 0.25, 0.9)],
        "butterfly": [
            ellipse(-0.98, -0.85, -0.05, 0.15),
            ellipse(0.05, -0.85, 0.98, 0.15),
            ellipse(-0.8, 0, -0.05, 0.8),
            ellipse(0.05, 0, 0.8, 0.8),
            rect(-0.08, -0.8, 0.08, 0.8),
        ],
        "snowman": [ellipse(-0.35, -1, 0.35, -0.35), ellipse(-0.55, -0.45, 0.55, 0.98)],
        "bone": [rect(-0.6, -0.18, 0.6, 0.18)]
        + [ellipse(x * 0.7 - 0.27, y * 0.25 - 0.27, x * 0.7 + 0.27, y * 0.25 + 0.27) for x in (-1, 1) for y in (-1, 1)],
    }


def tool_drawings():
    return {
        "cup": [
            polygon((-0.7, -0.7), (0.45, -0.7), (0.3, 0.8), (-0.55, 0.8)),
            ellipse(0.2, -0.5, 0.95, 0.35),
            cut(ellipse(0.38, -0.28, 0.75, 0.14)),
        ],
        "key": [
            ellipse(-0.98, -0.4, -0.2, 0.4),
            cut(ellipse(-0.78, -0.18, -0.42, 0.18)),
            rect(-0.3, -0.1, 0.95, 0.1),
            rect(0.5, 0.1, 0.65, 0.4),
            rect(0.8, 0.1, 0.95, 0.45),
        ],
        "anchor": [
            line(0.18, (0, -0.6), (0, 0.85)),
            ellipse(-0.22, -1, 0.22, -0.56),
            cut(ellipse(-0.09, -0.87, 0.09, -0.69)),
            line(0.16, (-0.4, -0.35), (0.4, -0.35)),
            arc(-0.8, -0.5, 0.8, 0.95, 10, 170, 0.18),
        ],
        "ladder": [rect(-0.6, -0.98, -0.4, 0.98), rect(0.4, -0.98, 0.6, 0.98)]
        + [rect(-0.5, y, 0.5, y + 0.14) for y in (-0.75, -0.3, 0.15, 0.6)],
        "fork": [rect(-0.09, -0.1, 0.09, 1), rect(-0.42, -0.25, 0.42, -0.05)]
        + [rect(x - 0.08, -1, x + 0.08, -0.15) for x in (-0.34, 0, 0.34)],
        "hammer": [rect(-0.1, -0.5, 0.1, 1), rect(-0.65, -0.95, 0.65, -0.4)],
        "bottle": [
            rect(-0.18, -1, 0.18, -0.4),
            polygon((-0.18, -0.5), (0.18, -0.5), (0.45, -0.1), (-0.45, -0.1)),
            rect(-0.45, -0.12, 0.45, 0.98),
        ],
        "umbrella": [half_disc(-0.98, -0.95, 0.98, 0.85), rect(-0.06, -0.1, 0.06, 0.75), arc(-0.06, 0.5, 0.4, 1, 0, 180, 0.12)],
        "bell": [
            half_disc(-0.55, -0.9, 0.55, 0.3),
            polygon((-0.55, -0.35), (0.55, -0.35), (0.85, 0.55), (-0.85, 0.55)),
            ellipse(-0.2, 0.5, 0.2, 0.9),
        ],
        "crown": [polygon((-0.9, 0.7), (-0.9, -0.6), (-0.45, 0.1), (0, -0.8), (0.45, 0.1), (0.9, -0.6), (0.9, 0.7))],
        "flag": [rect(-0.8, -1, -0.64, 1), polygon((-0.65, -0.95), (0.85, -0.75), (0.5, -0.4), (0.85, -0.05), (-0.65, 0.1))],
        "lamp": [
            polygon((-0.35, -0.9), (0.35, -0.9), (0.75, -0.1), (-0.75, -0.1)),
            rect(-0.08, -0.1, 0.08, 0.8),
            rect(-0.45, 0.75, 0.45, 0.95),
        ],
        "glasses": [
            ellipse(-0.98, -0.4, -0.12, 0.45),
            cut(ellipse(-0.8, -0.22, -0.3, 0.27)),
            ellipse(0.12, -0.4, 0.98, 0.45),
            cut(ellipse(0.3, -0.22, 0.8, 0.27)),
            rect(-0.2, -0.1, 0.2, 0.05),
        ],
    }


def built_drawings():
    return {
        "house": [rect(-0.7, -0.1, 0.7, 0.9), polygon((-0.95, -0.1), (0, -0.95), (0.95, -0.1)), cut(rect(-0.2, 0.3, 0.2, 0.9))],
        "boat": [
            polygon((-0.95, 0.35), (0.95, 0.35), (0.6, 0.85), (-0.6, 0.85)),
            polygon((-0.05, -0.95), (-0.05, 0.25), (-0.7, 0.25)),
            polygon((0.08, -0.7), (0.08, 0.25), (0.6, 0.25)),
        ],
        "car": [
            rect(-0.98, -0.05, 0.98, 0.4),
            polygon((-0.6, -0.05), (-0.4, -0.5), (0.35, -0.5), (0.65, -0.05)),
            ellipse(-0.72, 0.2, -0.2, 0.72),
            ellipse(0.2, 0.2, 0.72, 0.72),
        ],
        "chair": [rect(-0.6, -1, -0.4, 1), rect(-0.6, 0, 0.6, 0.2), rect(0.4, 0.1, 0.6, 1)],
        "table": [rect(-0.95, -0.5, 0.95, -0.25), rect(-0.8, -0.3, -0.6, 0.8), rect(0.6, -0.3, 0.8, 0.8)],
        "wheel": [
            ellipse(-0.95, -0.95, 0.95, 0.95),
            cut(ellipse(-0.72, -0.72, 0.72, 0.72)),
            rect(-0.08, -0.8, 0.08, 0.8),
            rect(-0.8, -0.08, 0.8, 0.08),
            ellipse(-0.22, -0.22, 0.22, 0.22),
        ],
        "window": [rect(-0.8, -0.95, 0.8, 0.95)]
        + [cut(rect(x, y, x + 0.54, y + 0.7)) for x in (-0.62, 0.08) for y in (-0.78, 0.08)],
        "rocket": [
            polygon((0, -1), (0.35, -0.45), (0.35, 0.55), (-0.35, 0.55), (-0.35, -0.45)),
            polygon((-0.35, 0.1), (-0.8, 0.8), (-0.35, 0.55)),
            polygon((0.35, 0.1), (0.8, 0.8), (0.35, 0.55)),
            cut(ellipse(-0.15, -0.4, 0.15, -0.1)),
        ],
    }


def drawings():
    """Name -> drawing of every object, in the order of the atlas."""
    return {**geometric_drawings(), **natural_drawings(), **tool_drawings(), **built_drawings()}


def digit_strokes():
    """For each digit three ways to write it; one way is a list of pen strokes, a stroke a list of points."""
    return [
        [[bow(0, 0, 0.55, 0.85, -90, 270)], [bow(0, 0, 0.45, 0.88, -90, 270)], [bow(0, 0, 0.62, 0.8, -60, 300)]],
        [
            [[(-0.3, -0.55), (0.08, -0.88), (0.08, 0.88)]],
            [[(0, -0.88), (0, 0.88)]],
            [[(-0.3, -0.55), (0.05, -0.88), (0.05, 0.88)], [(-0.35, 0.88), (0.4, 0.88)]],
        ],
        [
            [bow(0, -0.4, 0.5, 0.48, -170, 40) + [(-0.5, 0.85), (0.55, 0.85)]],
            [bow(0, -0.38, 0.5, 0.5, -180, 60) + [(-0.1, 0.3), (-0.5, 0.8), (0.1, 0.75), (0.55, 0.85)]],
            [bow(0, -0.4, 0.45, 0.45, -150, 50) + [(-0.45, 0.8), (0.5, 0.8)]],
        ],
        [
            [bow(-0.05, -0.42, 0.5, 0.45, -150, 80) + bow(-0.05, 0.42, 0.55, 0.46, -80, 150)],
            [[(-0.45, -0.85), (0.45, -0.85), (0, -0.15)] + bow(-0.05, 0.4, 0.52, 0.48, -80, 150)],
            [bow(0, -0.4, 0.4, 0.45, -160, 90) + bow(0, 0.42, 0.5, 0.45, -90, 160)],
        ],
        [
            [[(0.15, -0.88), (-0.55, 0.3), (0.55, 0.3)], [(0.25, -0.3), (0.25, 0.88)]],
            [[(-0.45, -0.85), (-0.45, 0.1), (0.45, 0.1)], [(0.35, -0.85), (0.35, 0.88)]],
            [[(0.25, 0.88), (0.25, -0.88), (-0.6, 0.35), (0.6, 0.35)]],
        ],
        [
            [[(0.5, -0.85), (-0.35, -0.85), (-0.42, -0.1)] + bow(-0.05, 0.35, 0.5, 0.5, -120, 140)],
            [[(0.45, -0.85), (-0.4, -0.85), (-0.4, -0.15), (0, -0.2)] + bow(0, 0.33, 0.45, 0.52, -90, 150)],
            [[(0.4, -0.8), (-0.3, -0.8), (-0.35, -0.05)] + bow(-0.05, 0.38, 0.48, 0.45, -110, 120)],
        ],
        [
            [[(0.35, -0.85), (-0.2, -0.4)] + bow(0, 0.38, 0.5, 0.47, -160, 220)],
            [bow(0.35, 0, 0.85, 0.9, -100, -200) + bow(0, 0.42, 0.48, 0.44, 160, -200)],
            [[(0.1, -0.88), (-0.35, -0.1)] + bow(0, 0.4, 0.42, 0.45, 180, -180)],
        ],
        [
            [[(-0.5, -0.85), (0.5, -0.85), (-0.1, 0.88)]],
            [[(-0.5, -0.85), (0.5, -0.85), (0, 0), (-0.15, 0.88)], [(-0.35, 0.05), (0.35, 0)]],
            [[(-0.5, -0.65), (-0.45, -0.85), (0.5, -0.85), (0.1, 0.88)]],
        ],
        [
            [bow(0, -0.43, 0.4, 0.42, -90, 270), bow(0, 0.43, 0.48, 0.44, -90, 270)],
            [[(0.45 * math.sin(2 * t), -0.88 * math.cos(t)) for t in np.linspace(0, TURN, 49)]],
            [bow(0, -0.42, 0.35, 0.42, -90, 270), bow(0, 0.42, 0.4, 0.44, -90, 270)],
        ],
        [
            [bow(0, -0.4, 0.45, 0.46, 0, 360) + [(0.4, 0.1), (0.3, 0.88)]],
            [bow(0, -0.42, 0.45, 0.44, 20, 380) + [(0.42, 0.88)]],
            [bow(-0.02, -0.4, 0.45, 0.44, 0, 360) + bow(-0.4, -0.1, 0.85, 0.95, 0, 75)],
        ],
    ]


def draw(primitives):
    """Paint a drawing. Returns a uint8 mask [64, 64]."""
    image = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(image)

    def pixels(values):
        return [(v * 0.5 + 0.5) * (CANVAS - 1) for v in values]

    for kind, where, *more in primitives:
        fill = 0 if kind.startswith("cut ") else 255
        kind = kind.removeprefix("cut ")
        if kind == "polygon":
            pen.polygon([tuple(pixels(p)) for p in where], fill=fill)
        elif kind == "ellipse":
            pen.ellipse(pixels(where), fill=fill)
        elif kind == "pie":
            pen.pieslice(pixels(where), *more, fill=fill)
        elif kind == "arc":
            pen.arc(pixels(where), more[0], more[1], fill=fill, width=int(more[2] * CANVAS / 2))
        else:
            pen.line([tuple(pixels(p)) for p in where], fill=fill, width=int(more[0] * CANVAS / 2), joint="curve")
    return np.asarray(image.resize((SPRITE, SPRITE), Image.BOX))


def draw_glyph(character, stroke=0):
    """A character of PIL's own font, `stroke` pixels bolder, scaled to fill the mask. Returns uint8 [64, 64]."""
    image = Image.new("L", (320, 320), 0)
    ImageDraw.Draw(image).text(
        (160, 160), character, fill=255, font=ImageFont.load_default(size=200), anchor="mm", stroke_width=stroke
    )
    glyph = image.crop(image.getbbox())
    side = int(max(glyph.size) * 1.06) + 2
    square = Image.new("L", (side, side), 0)
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return np.asarray(square.resize((SPRITE, SPRITE), Image.BOX))


def draw_all():
    """Name -> list of masks (uint8 [64, 64]): objects one, digits twelve (nine written, three printed), letters two."""
    masks = {name: [draw(d)] for name, d in drawings().items()}
    for digit, (name, ways) in enumerate(zip(DIGIT_NAMES, digit_strokes())):
        masks[name] = [
            draw([line(width, *((0.95 * x, 0.95 * y) for x, y in stroke)) for stroke in way])
            for way in ways
            for width in (0.2, 0.28, 0.36)
        ]
        masks[name] += [draw_glyph(str(digit), stroke) for stroke in (0, 8, 16)]
    for name in LETTER_NAMES:
        masks[name] = [draw_glyph(name[-1].upper(), stroke) for stroke in (0, 10)]
    return masks
