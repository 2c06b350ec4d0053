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
    heart = closed_curve(lambda t: (0.058 * 16 * math.sin(t) ** 3,
                                    -0.058 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)
                                              - math.cos(4 * t))))
    spiral = [((.05 + .068 * t) * math.cos(t), (.05 + .068 * t) * math.sin(t)) for t in np.linspace(0, 12.6, 120)]
    return {
        "circle": [ellipse(-.9, -.9, .9, .9)],
        "square": [rect(-.8, -.8, .8, .8)],
        "triangle": [regular(3)],
        "pentagon": [regular(5)],
        "octagon": [regular(8, .95, -67.5)],
        "star": [regular(5, inner=.4)],
        "cross": [rect(-.28, -.95, .28, .95), rect(-.95, -.28, .95, .28)],
        "heart": [heart],
        "moon": [ellipse(-.9, -.9, .9, .9), cut(ellipse(-.35, -.95, 1.3, .7))],
        "ring": [ellipse(-.9, -.9, .9, .9), cut(ellipse(-.5, -.5, .5, .5))],
        "arrow": [rect(-.95, -.22, .2, .22), polygon((.1, -.7), (.98, 0), (.1, .7))],
        "diamond": [polygon((0, -1), (.6, 0), (0, 1), (-.6, 0))],
        "egg": [closed_curve(lambda t: (.68 * math.sin(t) * (1 - .2 * math.cos(t)), -.95 * math.cos(t)))],
        "bar": [rect(-.98, -.3, .98, .3)],
        "dome": [half_disc(-.95, -.6, .95, 1.3)],
        "gear": [regular(9, inner=.72), ellipse(-.75, -.75, .75, .75), cut(ellipse(-.3, -.3, .3, .3))],
        "spiral": [line(.2, *spiral)],
        "hourglass": [polygon((-.7, -.95), (.7, -.95), (-.7, .95), (.7, .95))],
        "stairs": [polygon((-.9, .9), (-.9, .45), (-.45, .45), (-.45, 0), (0, 0), (0, -.45), (.45, -.45), (.45, -.9),
                           (.9, -.9), (.9, .9))],
    }


def natural_drawings():
    petals = [ellipse(x - .36, y - .36, x + .36, y + .36) for x, y in around(5, .546, -1.57)]
    rays = [line(.12, (.62 * x, .62 * y), (.98 * x, .98 * y)) for x, y in around(8, 1.0)]
    return {
        "flower": petals + [cut(ellipse(-.2, -.2, .2, .2))],
        "lightning": [polygon((.2, -1), (-.6, .15), (-.05, .15), (-.25, 1), (.6, -.25), (.05, -.25))],
        "drop": [ellipse(-.6, -.15, .6, .98), polygon((0, -1), (.56, .25), (-.56, .25))],
        "leaf": [closed_curve(lambda t: (.55 * math.sin(t) ** 3, -.8 * math.cos(t) - .15), 80), rect(-.06, .5, .06, 1)],
        "cloud": [ellipse(-.95, -.1, -.15, .6), ellipse(-.6, -.6, .25, .4), ellipse(-.05, -.4, .65, .35),
                  ellipse(.3, -.1, .95, .6), rect(-.6, .2, .65, .6)],
        "sun": [ellipse(-.5, -.5, .5, .5)] + rays,
        "tree": [rect(-.13, .3, .13, .98), ellipse(-.65, -.95, .65, .45)],
        "pine": [rect(-.12, .6, .12, 1), polygon((0, -1), (.5, -.3), (-.5, -.3)),
                 polygon((0, -.6), (.65, .2), (-.65, .2)), polygon((0, -.2), (.8, .7), (-.8, .7))],
        "fish": [ellipse(-.95, -.45, .55, .45), polygon((.35, 0), (.98, -.5), (.98, .5)),
                 cut(ellipse(-.7, -.2, -.5, 0))],
        "mushroom": [half_disc(-.95, -.9, .95, .9), rect(-.25, -.05, .25, .9)],
        "butterfly": [ellipse(-.98, -.85, -.05, .15), ellipse(.05, -.85, .98, .15), ellipse(-.8, 0, -.05, .8),
                      ellipse(.05, 0, .8, .8), rect(-.08, -.8, .08, .8)],
        "snowman": [ellipse(-.35, -1, .35, -.35), ellipse(-.55, -.45, .55, .98)],
        "bone": [rect(-.6, -.18, .6, .18)] + [ellipse(x * .7 - .27, y * .25 - .27, x * .7 + .27, y * .25 + .27)
                                              for x in (-1, 1) for y in (-1, 1)],
    }


def tool_drawings():
    return {
        "cup": [polygon((-.7, -.7), (.45, -.7), (.3, .8), (-.55, .8)), ellipse(.2, -.5, .95, .35),
                cut(ellipse(.38, -.28, .75, .14))],
        "key": [ellipse(-.98, -.4, -.2, .4), cut(ellipse(-.78, -.18, -.42, .18)), rect(-.3, -.1, .95, .1),
                rect(.5, .1, .65, .4), rect(.8, .1, .95, .45)],
        "anchor": [line(.18, (0, -.6), (0, .85)), ellipse(-.22, -1, .22, -.56), cut(ellipse(-.09, -.87, .09, -.69)),
                   line(.16, (-.4, -.35), (.4, -.35)), arc(-.8, -.5, .8, .95, 10, 170, .18)],
        "ladder": [rect(-.6, -.98, -.4, .98), rect(.4, -.98, .6, .98)]
        + [rect(-.5, y, .5, y + .14) for y in (-.75, -.3, .15, .6)],
        "fork": [rect(-.09, -.1, .09, 1), rect(-.42, -.25, .42, -.05)]
        + [rect(x - .08, -1, x + .08, -.15) for x in (-.34, 0, .34)],
        "hammer": [rect(-.1, -.5, .1, 1), rect(-.65, -.95, .65, -.4)],
        "bottle": [rect(-.18, -1, .18, -.4), polygon((-.18, -.5), (.18, -.5), (.45, -.1), (-.45, -.1)),
                   rect(-.45, -.12, .45, .98)],
        "umbrella": [half_disc(-.98, -.95, .98, .85), rect(-.06, -.1, .06, .75), arc(-.06, .5, .4, 1, 0, 180, .12)],
        "bell": [half_disc(-.55, -.9, .55, .3), polygon((-.55, -.35), (.55, -.35), (.85, .55), (-.85, .55)),
                 ellipse(-.2, .5, .2, .9)],
        "crown": [polygon((-.9, .7), (-.9, -.6), (-.45, .1), (0, -.8), (.45, .1), (.9, -.6), (.9, .7))],
        "flag": [rect(-.8, -1, -.64, 1), polygon((-.65, -.95), (.85, -.75), (.5, -.4), (.85, -.05), (-.65, .1))],
        "lamp": [polygon((-.35, -.9), (.35, -.9), (.75, -.1), (-.75, -.1)), rect(-.08, -.1, .08, .8),
                 rect(-.45, .75, .45, .95)],
        "glasses": [ellipse(-.98, -.4, -.12, .45), cut(ellipse(-.8, -.22, -.3, .27)), ellipse(.12, -.4, .98, .45),
                    cut(ellipse(.3, -.22, .8, .27)), rect(-.2, -.1, .2, .05)],
    }


def built_drawings():
    return {
        "house": [rect(-.7, -.1, .7, .9), polygon((-.95, -.1), (0, -.95), (.95, -.1)), cut(rect(-.2, .3, .2, .9))],
        "boat": [polygon((-.95, .35), (.95, .35), (.6, .85), (-.6, .85)),
                 polygon((-.05, -.95), (-.05, .25), (-.7, .25)), polygon((.08, -.7), (.08, .25), (.6, .25))],
        "car": [rect(-.98, -.05, .98, .4), polygon((-.6, -.05), (-.4, -.5), (.35, -.5), (.65, -.05)),
                ellipse(-.72, .2, -.2, .72), ellipse(.2, .2, .72, .72)],
        "chair": [rect(-.6, -1, -.4, 1), rect(-.6, 0, .6, .2), rect(.4, .1, .6, 1)],
        "table": [rect(-.95, -.5, .95, -.25), rect(-.8, -.3, -.6, .8), rect(.6, -.3, .8, .8)],
        "wheel": [ellipse(-.95, -.95, .95, .95), cut(ellipse(-.72, -.72, .72, .72)), rect(-.08, -.8, .08, .8),
                  rect(-.8, -.08, .8, .08), ellipse(-.22, -.22, .22, .22)],
        "window": [rect(-.8, -.95, .8, .95)] + [cut(rect(x, y, x + .54, y + .7))
                                                for x in (-.62, .08) for y in (-.78, .08)],
        "rocket": [polygon((0, -1), (.35, -.45), (.35, .55), (-.35, .55), (-.35, -.45)),
                   polygon((-.35, .1), (-.8, .8), (-.35, .55)), polygon((.35, .1), (.8, .8), (.35, .55)),
                   cut(ellipse(-.15, -.4, .15, -.1))],
    }


def drawings():
    """Name -> drawing of every object, in the order of the atlas."""
    return {**geometric_drawings(), **natural_drawings(), **tool_drawings(), **built_drawings()}


def digit_strokes():
    """For each digit three ways to write it; one way is a list of pen strokes, a stroke a list of points."""
    return [
        [[bow(0, 0, .55, .85, -90, 270)], [bow(0, 0, .45, .88, -90, 270)], [bow(0, 0, .62, .8, -60, 300)]],
        [[[(-.3, -.55), (.08, -.88), (.08, .88)]], [[(0, -.88), (0, .88)]],
         [[(-.3, -.55), (.05, -.88), (.05, .88)], [(-.35, .88), (.4, .88)]]],
        [[bow(0, -.4, .5, .48, -170, 40) + [(-.5, .85), (.55, .85)]],
         [bow(0, -.38, .5, .5, -180, 60) + [(-.1, .3), (-.5, .8), (.1, .75), (.55, .85)]],
         [bow(0, -.4, .45, .45, -150, 50) + [(-.45, .8), (.5, .8)]]],
        [[bow(-.05, -.42, .5, .45, -150, 80) + bow(-.05, .42, .55, .46, -80, 150)],
         [[(-.45, -.85), (.45, -.85), (0, -.15)] + bow(-.05, .4, .52, .48, -80, 150)],
         [bow(0, -.4, .4, .45, -160, 90) + bow(0, .42, .5, .45, -90, 160)]],
        [[[(.15, -.88), (-.55, .3), (.55, .3)], [(.25, -.3), (.25, .88)]],
         [[(-.45, -.85), (-.45, .1), (.45, .1)], [(.35, -.85), (.35, .88)]],
         [[(.25, .88), (.25, -.88), (-.6, .35), (.6, .35)]]],
        [[[(.5, -.85), (-.35, -.85), (-.42, -.1)] + bow(-.05, .35, .5, .5, -120, 140)],
         [[(.45, -.85), (-.4, -.85), (-.4, -.15), (0, -.2)] + bow(0, .33, .45, .52, -90, 150)],
         [[(.4, -.8), (-.3, -.8), (-.35, -.05)] + bow(-.05, .38, .48, .45, -110, 120)]],
        [[[(.35, -.85), (-.2, -.4)] + bow(0, .38, .5, .47, -160, 220)],
         [bow(.35, 0, .85, .9, -100, -200) + bow(0, .42, .48, .44, 160, -200)],
         [[(.1, -.88), (-.35, -.1)] + bow(0, .4, .42, .45, 180, -180)]],
        [[[(-.5, -.85), (.5, -.85), (-.1, .88)]],
         [[(-.5, -.85), (.5, -.85), (0, 0), (-.15, .88)], [(-.35, .05), (.35, 0)]],
         [[(-.5, -.65), (-.45, -.85), (.5, -.85), (.1, .88)]]],
        [[bow(0, -.43, .4, .42, -90, 270), bow(0, .43, .48, .44, -90, 270)],
         [[(.45 * math.sin(2 * t), -.88 * math.cos(t)) for t in np.linspace(0, TURN, 49)]],
         [bow(0, -.42, .35, .42, -90, 270), bow(0, .42, .4, .44, -90, 270)]],
        [[bow(0, -.4, .45, .46, 0, 360) + [(.4, .1), (.3, .88)]], [bow(0, -.42, .45, .44, 20, 380) + [(.42, .88)]],
         [bow(-.02, -.4, .45, .44, 0, 360) + bow(-.4, -.1, .85, .95, 0, 75)]],
    ]


def draw(primitives):
    """Paint a drawing. Returns a uint8 mask [64, 64]."""
    image = Image.new("L", (CANVAS, CANVAS), 0)
    pen = ImageDraw.Draw(image)

    def pixels(values):
        return [(v * .5 + .5) * (CANVAS - 1) for v in values]

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
    ImageDraw.Draw(image).text((160, 160), character, fill=255, font=ImageFont.load_default(size=200), anchor="mm",
                               stroke_width=stroke)
    glyph = image.crop(image.getbbox())
    side = int(max(glyph.size) * 1.06) + 2
    square = Image.new("L", (side, side), 0)
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return np.asarray(square.resize((SPRITE, SPRITE), Image.BOX))


def draw_all():
    """Name -> list of masks (uint8 [64, 64]): objects one, digits twelve (nine written, three printed), letters two."""
    masks = {name: [draw(d)] for name, d in drawings().items()}
    for digit, (name, ways) in enumerate(zip(DIGIT_NAMES, digit_strokes())):
        masks[name] = [draw([line(width, *((.95 * x, .95 * y) for x, y in stroke)) for stroke in way])
                       for way in ways for width in (.2, .28, .36)]
        masks[name] += [draw_glyph(str(digit), stroke) for stroke in (0, 8, 16)]
    for name in LETTER_NAMES:
        masks[name] = [draw_glyph(name[-1].upper(), stroke) for stroke in (0, 10)]
    return masks
