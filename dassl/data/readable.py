"""Images that can't be read are found before training starts, not when an evaluation comes to them hours later.

Every image of a run is decoded once. A record of that in ``<DATASET.ROOT>/.checked`` holds for as long as paths, sizes and
times of change stay the same.
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from basics import UserError, home, read_json, write_json

from ..utils import probe_image

FOLDER = ".checked"
COUNTED = ("with_exif_orientation", "with_transparency")
MANY_TRAINING_IMAGES = 100_000  # above this they are left out: the first epoch decodes them anyway


def check_readable(dataset, cfg, upright):
    """Raise UserError when images of ``dataset`` (a DatasetBase) can't be read; print what a reader drops of the others.

    ``upright``: whether this run turns them.
    """
    train = dataset.train_x if len(dataset.train_x) <= MANY_TRAINING_IMAGES else []
    paths = sorted({item.impath for data in (train, dataset.val, dataset.test) for item in data or ()})
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        stamps = list(pool.map(_stamp, paths))
    digest = hashlib.sha256(repr(list(zip(paths, stamps))).encode("utf-8", "surrogateescape")).hexdigest()
    memory = os.path.join(os.path.expanduser(cfg.DATASET.ROOT), FOLDER, f"{digest[:32]}.json")
    counts = _remembered(memory)
    if counts is None:
        if len(paths) > 1000:
            print(f"Reading {len(paths):,} images once, to see that all can be read")
        *counts, errors = probe_images(paths)
        if errors:
            more = f"; {len(errors)} images can't be read (`{home.command('check')}` lists them)" if len(errors) > 1 else ""
            raise UserError(errors[0] + more)
        try:
            write_json(dict(zip(COUNTED, counts)), memory)
        except UserError:  # a read-only data folder: checked again next time
            pass
    for line in remarks_on_images(len(paths), *counts, upright):
        print(line)


def remarks_on_images(total, oriented, transparent, upright):
    """Lines about images of which a reader drops something; ``upright``: whether this run turns them; None: no run."""
    lines = []
    if oriented:
        turned = {
            True: "; they are turned as it says",
            False: "; they stay as they are stored, as in published code",
            None: "",
        }[upright]
        lines.append(f"Note: {oriented} of {total} images have an EXIF orientation{turned} (INPUT.EXIF_ORIENTATION)")
    if transparent:
        lines.append(f"Note: {transparent} of {total} images have transparent parts; that is dropped, as in published code")
    return lines


def _stamp(path):
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns


def _remembered(memory):
    if not os.path.isfile(memory):
        return None
    try:
        counts = [read_json(memory)[name] for name in COUNTED]
    except (UserError, KeyError, TypeError):
        return None
    return counts if all(isinstance(count, int) for count in counts) else None


def probe_images(paths):
    """Decode every image file: (how many EXIF would turn, how many are transparent, messages for those that can't be read)."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = pool.map(_probe, paths)
        found = list(tqdm(results, total=len(paths), unit=" images", leave=False, disable=not sys.stderr.isatty()))
    read = [traits for traits, _ in found if traits]
    errors = [error for _, error in found if error]
    return sum(oriented for oriented, _ in read), sum(transparent for _, transparent in read), errors


def _probe(path):
    try:
        return probe_image(path), ""
    except UserError as error:
        return None, str(error)
