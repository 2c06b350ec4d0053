"""The atlas: every mask and every texture tile of the built-in world, in one committed grey PNG, 64 x 64 a cell.

`atlas.json` lists the names and the number of cells of each, in the order of the cells. `python -m
datasets.builtin.atlas` draws both files anew; that changes the data, so the pixel hashes in `sets.py` and the model
have to be made anew too.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CELL = 64
COLUMNS = 20
FOLDER = Path(__file__).parent


class Atlas(NamedTuple):
    masks: np.ndarray  # float32 [sprites, 66, 66], 0..1, a border of one empty pixel
    sprites: dict  # name -> rows of `masks`
    tiles: np.ndarray  # float32 [tiles, 64, 64], 0..1
    textures: dict  # name -> rows of `tiles`


def rows_of(counts):
    """[[name, number of cells], ...] -> name -> array of rows."""
    rows, start = {}, 0
    for name, count in counts:
        rows[name] = np.arange(start, start + count)
        start += count
    return rows


@lru_cache(maxsize=1)
def load_atlas():
    """Read the committed atlas; about 20 ms, once a process."""
    index = json.loads((FOLDER / "atlas.json").read_text())
    sheet = np.asarray(Image.open(FOLDER / "atlas.png"))
    cells = sheet.reshape(-1, CELL, COLUMNS, CELL).swapaxes(1, 2).reshape(-1, CELL, CELL).astype(np.float32) / 255
    sprites, textures = rows_of(index["sprites"]), rows_of(index["textures"])
    first = sum(map(len, sprites.values()))
    count = sum(map(len, textures.values()))
    masks = np.pad(cells[:first], ((0, 0), (1, 1), (1, 1)))
    return Atlas(masks, sprites, cells[first : first + count], textures)


def draw_atlas():
    """Draw all cells. Returns the sheet (uint8 [rows * 64, 20 * 64]) and the index that goes with it."""
    from . import patterns, shapes

    sprites, textures = shapes.draw_all(), patterns.draw_all()
    cells = np.stack([cell for part in (sprites, textures) for cells in part.values() for cell in cells])
    cells = np.pad(cells, ((0, -len(cells) % COLUMNS), (0, 0), (0, 0)))
    sheet = cells.reshape(-1, COLUMNS, CELL, CELL).swapaxes(1, 2).reshape(-1, COLUMNS * CELL)
    index = {key: [[name, len(part[name])] for name in part] for key, part in (("sprites", sprites), ("textures", textures))}
    return sheet, index


if __name__ == "__main__":
    sheet, index = draw_atlas()
    Image.fromarray(sheet).save(FOLDER / "atlas.png", optimize=True)
    (FOLDER / "atlas.json").write_text(json.dumps(index) + "\n")
