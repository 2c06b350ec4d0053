"""The drawn world: the same seed gives the same pictures and captions; the committed atlas is what the code draws."""

import hashlib

import numpy as np
import pytest

from datasets.builtin import atlas, captions
from datasets.builtin.render import FULL_FRAME, NOTHING, Pose, Scenes, render
from datasets.builtin.styles import IMAGE_STYLES, POSED, STYLE_ID, STYLES

# Captions of the first batch of the run that made the committed model: the code must still say the same.
FIRST_CAPTIONS = "2e77362ceaa499dc"
FIRST_MEANS = [159.303, 134.392, 107.493]


def test_batch_is_a_function_of_seed_and_step():
    images, texts, labels = captions.batch(3, 5, 24)
    again, same_texts, same_labels = captions.batch(3, 5, 24)
    assert images.shape == (24, 48, 48, 3) and images.dtype == np.uint8
    assert np.array_equal(images, again) and texts == same_texts
    assert all(np.array_equal(labels[k], same_labels[k]) for k in labels)
    other = captions.batch(3, 6, 24)
    assert not np.array_equal(images, other[0]) and texts != other[1]


def test_first_batch_of_the_recorded_training():
    images, texts, _ = captions.batch(1, 0, 160, photo_share=0.8)
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == FIRST_CAPTIONS
    # Means, not a hash: a sine may differ in its last bit between processors.
    assert np.allclose(images.mean((0, 1, 2)), FIRST_MEANS, atol=0.05)


def test_captions_tell_the_truth():
    rng = np.random.default_rng(0)
    facts = captions.invent(rng, 400, 0.45)
    texts = [captions.caption(rng, facts, i) for i in range(400)]
    for i, text in enumerate(texts):
        words = text.rstrip(".").replace("-", " ").split()
        if facts.kind[i] == captions.OBJECT:
            name = captions.NAMES[facts.name[i]]
            assert name in words or name + "s" in words, text
        if facts.kind[i] == captions.LETTER:
            assert captions.NAMES[facts.name[i]] in text
        assert "a the" not in text and "the the" not in text
    assert len(set(texts)) > 300


def test_atlas_is_what_the_code_draws():
    """Within tolerance: rasterisers and fonts may change, which is why the atlas is committed."""
    sheet, index = atlas.draw_atlas()
    drawn = atlas.load_atlas()
    cells = sheet.reshape(-1, 64, 20, 64).swapaxes(1, 2).reshape(-1, 64, 64) / 255
    n = len(drawn.masks)
    assert [name for name, _ in index["sprites"]] == list(drawn.sprites)
    assert [name for name, _ in index["textures"]] == list(drawn.textures)
    glyphs = np.concatenate(
        [
            drawn.sprites[k] if k.startswith("letter") else drawn.sprites[k][9:]
            for k in captions.DIGIT_NAMES + captions.LETTER_NAMES
        ]
    )
    strokes = np.setdiff1d(np.arange(n), glyphs)
    assert np.abs(cells[strokes] - drawn.masks[strokes, 1:-1, 1:-1]).mean() < 0.01
    assert np.abs(cells[n : n + len(drawn.tiles)] - drawn.tiles).mean() < 0.01


def one_scene(style, n=4):
    star = load_rows("star")
    colours = tuple(np.tile(np.float32(c), (n, 1)) for c in ((0.9, 0.2, 0.2), (0.9, 0.2, 0.2)))
    back = tuple(np.tile(np.float32(c), (n, 1)) for c in ((0.2, 0.3, 0.6), (0.2, 0.3, 0.5)))
    plain = np.full(n, atlas.load_atlas().textures["plain"][0])
    scenes = Scenes(
        np.full(n, star),
        np.full(n, STYLE_ID[style]),
        plain,
        np.ones(n),
        colours,
        plain,
        back,
        np.full(n, NOTHING),
        np.zeros((n, 3), np.float32),
    )
    return render(np.random.default_rng(0), scenes, Pose(noise=0.0))


def load_rows(name):
    return atlas.load_atlas().sprites[name][0]


@pytest.mark.parametrize("style", STYLES[1:])
def test_every_style_shows(style):
    photo, styled = one_scene("photo").astype(int), one_scene(style).astype(int)
    assert styled.shape == photo.shape
    assert np.abs(styled - photo).mean() > 1.5, "this style can't be told from a photo"
    assert style in IMAGE_STYLES or style in POSED


def test_styles_do_what_they_say():
    photo = one_scene("photo").astype(int)
    red = photo[..., 0] > 150
    assert one_scene("dark").mean() < 0.5 * photo.mean() < 0.5 * one_scene("bright").mean()
    grey = one_scene("black and white").astype(int)
    assert np.ptp(grey, axis=-1).max() <= 1
    assert (one_scene("close-up")[..., 0] > 150).sum() > red.sum() > (one_scene("small")[..., 0] > 150).sum() > 0


def test_full_frame_has_no_background():
    rng = np.random.default_rng(0)
    white, black = (np.tile(np.float32(c), (2, 1)) for c in ((1, 1, 1), (0, 0, 0)))
    plain = np.full(2, atlas.load_atlas().textures["plain"][0])
    scenes = Scenes(
        np.full(2, FULL_FRAME),
        np.zeros(2, int),
        plain,
        np.ones(2),
        (white, white),
        plain,
        (black, black),
        np.full(2, NOTHING),
        black,
    )
    assert render(rng, scenes, Pose(noise=0.0)).min() == 255
