"""Augmented views of training images, one by one and batch by batch as a DataLoader asks for them.

    python -m benchmarks.loading

CPU time of one thread, without workers; random resized crop, flip and normalisation. The images are in memory, as they are in
training from the second epoch on (DATALOADER.DECODED_MB). The ways take turns, and give the same tensors to the bit.
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from basics import UserError, program
from basics.program import Parser
from benchmarks.measure import median_times

IMAGES = 64
SIZES = ((48, 64), (256, 224))  # (edge of a stored image, of a view): the built-in sets; photographs for ViT-B/16


def dataset(folder, stored, view):
    """Wrapper of IMAGES images of noise."""
    from dassl.config import get_cfg_default
    from dassl.data import DatasetWrapper
    from dassl.data.datasets import Datum
    from dassl.data.transforms import build_transform

    rng, items = np.random.default_rng(0), []
    for number in range(IMAGES):
        path = Path(folder) / f"{stored}_{number}.png"
        Image.fromarray(rng.integers(0, 256, (stored, stored, 3), dtype=np.uint8)).save(path)
        items.append(Datum(str(path)))
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (view, view)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    with contextlib.redirect_stdout(io.StringIO()):
        return DatasetWrapper(cfg, items, build_transform(cfg), is_train=True)


def measure(data, batch_size, repeats):
    """(seconds of one view alone, in a batch)."""
    from dassl.data import SampleIndex

    indices = [SampleIndex(i, seed=1, epoch=0) for i in range(len(data))]
    parts = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    alone, together = (lambda: [data[i] for i in indices]), (lambda: [x for part in parts for x in data.__getitems__(part)])
    if not all(torch.equal(a["img"], b["img"]) for a, b in zip(alone(), together(), strict=True)):
        raise UserError("views of a batch differ from views that are made one by one")
    return [seconds / len(data) for seconds in median_times([alone, together], repeats, clock=time.process_time)]


def main(argv=None):
    """Run one command line; prints the table and returns its rows."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s, CoOp's")
    parser.add_argument("--repeats", type=int, default=21, help="measured passes of each way (default: %(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stored, view in SIZES:
            alone, together = measure(dataset(folder, stored, view), args.batch_size, args.repeats)
            rows.append([f"{stored} → {view} pixels", 1e3 * alone, 1e3 * together, alone / together])
    heads = ["", "one by one, ms a view", f"batches of {args.batch_size}, ms a view", "times less"]
    print(tabulate(rows, heads, floatfmt=("", ".2f", ".2f", ".2f")))
    return rows


if __name__ == "__main__":
    program.run(main)
