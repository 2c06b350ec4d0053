"""Draws pictures with several labels each, and `labels.csv` beside them: `python -m tests.cli.drawn_scenes FOLDER`.

A picture has four quarters; one to three of the textures of `drawn_photos` are spread over them.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.drawn_photos import CLASSES, SIDE, photo

NAMES = sorted(CLASSES.values())
PER_TIMES = 120


def draw(folder, count=PER_TIMES, form="csv", seed=0):
    """`count` pictures and the file of their labels, as CSV or JSON Lines; returns [(name, labels)]."""
    rng = np.random.default_rng(seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        names = sorted(rng.choice(NAMES, size=rng.integers(1, 4), replace=False).tolist())
        quarters = names + rng.choice(names, size=4 - len(names)).tolist()
        whole = Image.new("RGB", (2 * SIDE, 2 * SIDE))
        for place, name in zip(rng.permutation(4), quarters):
            whole.paste(photo(name, rng), (SIDE * int(place % 2), SIDE * int(place // 2)))
        rows.append((f"{number:03}.png", names))
        whole.save(Path(folder) / rows[-1][0])
    if form == "csv":
        text = "image,labels\n" + "".join(f"{image},{';'.join(names)}\n" for image, names in rows)
    else:
        text = "".join(json.dumps({"image": image, "labels": names}) + "\n" for image, names in rows)
    (Path(folder) / f"labels.{form}").write_text(text)
    return rows


if __name__ == "__main__":
    draw(sys.argv[1])
