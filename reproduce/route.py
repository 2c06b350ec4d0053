"""Routing examples of a finished MoCoOp run (the paper's Figure 5): a process of its own, because it needs the engine.

    python -m reproduce.route RUN --root data --images 6 --seed 1 --out FOLDER

One random test image of each of so many random classes of the run; writes routing.json, routing.png and routing.pdf.
"""

import contextlib
import io
import random
import sys
from pathlib import Path

from basics import program, write_json
from basics.program import Parser


def test_images(run, root, number, seed):
    """[(path, class name)] of `number` random test images of different classes, from the run's dataset below `root`."""
    import datasets  # registers them
    from dassl.data.datasets import build_dataset
    from inference import configuration, read_run

    assert datasets
    cfg = configuration(read_run(run), ["DATASET.ROOT", str(root)])
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = build_dataset(cfg)
    by_class = {}
    for item in dataset.test:
        by_class.setdefault(item.classname, []).append(item.impath)
    order = random.Random(seed)
    names = order.sample(sorted(by_class), min(number, len(by_class)))
    return [(order.choice(by_class[name]), name) for name in names]


def main(argv=None):
    return program.run(lambda: route(argv))


def route(argv):
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--root", required=True)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    from inference import picture, read_run, routing

    results = read_run(args.run)
    chosen = test_images(args.run, args.root, args.images, args.seed)
    predictions = routing(args.run, [path for path, _ in chosen])
    predictions = [{"truth": name, **prediction} for (_, name), prediction in zip(chosen, predictions)]
    for kind in ("png", "pdf"):
        picture(predictions, args.out / f"routing.{kind}", results)
    write_json({"run": args.run, "trained_at": results["finished_at"], "images": predictions}, str(args.out / "routing.json"))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
