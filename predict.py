"""Classify images with a finished run; for MoCoOp also say which experts the router picks, and how much of each.

    python predict.py --model-dir output/base2new/train_base/eurosat/shots_16/MoCoOp/vit_b16/seed1 field.jpg river.jpg
    python predict.py --model-dir RUN --classes "river,forest,highway" --picture routing.png photos/*.jpg

The run's results.json says method, backbone, settings and class names, its checkpoint has what was learned: the images
that it was trained on aren't needed. Exit status: 0 done; 2 something the user can mend (one `error: ...` line on stderr);
130 Ctrl-C.
"""

import sys
from pathlib import Path

from basics import UserError, printable, program, read_json, write_json
from basics.program import EXIT_STATUSES, Parser
from inference import Predictor, as_text, picture, routing

__all__ = ["Predictor", "routing"]  # for those who import this command


def build_parser():
    parser = Parser(
        description="Classify images with a finished run; for MoCoOp also show the router's choice of experts.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--model-dir", required=True, metavar="RUN", help="folder of a finished run (its --output-dir)")
    parser.add_argument("--load-epoch", type=int, help="epoch whose checkpoint to load (default: the best or last)")
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--classes", metavar="A,B,C", help="choose among these classes (default: the run's own)")
    names.add_argument(
        "--classes-file", metavar="FILE", help="choose among the classes in this file: one a line, or a run's results.json"
    )
    parser.add_argument("--top", type=int, default=5, help="how many classes to name (default 5)")
    parser.add_argument("--json", metavar="FILE", help="also write the predictions to this file")
    parser.add_argument("--picture", metavar="FILE", help="also draw the predictions (.png, .pdf, .svg)")
    parser.add_settings("change a setting of the run, e.g. --set MODEL.BACKBONE.PATH /weights/ViT-B-16.pt")
    return parser


def chosen_classes(args):
    """The class names that the command line asks for; None for the run's own."""

    if args.classes is not None:
        return [name.strip() for name in args.classes.split(",")]
    if args.classes_file is None:
        return None
    if args.classes_file.endswith(".json"):
        content = read_json(args.classes_file)
        names = content.get("classnames") if isinstance(content, dict) else content
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{args.classes_file}: it has no list of class names")
        return names
    try:
        lines = Path(args.classes_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--classes-file {args.classes_file} cannot be read: {e}") from e
    return [line.strip() for line in lines if line.strip()]


def run(args):
    """Predict what the arguments ask for."""
    from dassl.utils import is_turned

    if args.top < 1:
        raise UserError(f"--top {args.top}: at least one class must be named")
    overrides = [word for pair in args.pairs for word in pair]
    predictor = Predictor(args.model_dir, chosen_classes(args), args.load_epoch, overrides)
    predictions = predictor(args.images, args.top)
    turned = 0 if predictor.upright else sum(is_turned(path) for path in args.images)
    if turned:
        note = f"Note: {turned} image(s) have an EXIF orientation and stay as they are stored, as in the run's own data"
        print(f"{note}; --set INPUT.EXIF_ORIENTATION apply turns them", file=sys.stderr)
    print(printable("\n\n".join(map(as_text, predictions))))
    results = predictor.results
    if args.json:
        about = {key: results[key] for key in ("trainer", "dataset", "backbone")}
        about = {"run": args.model_dir, **about, "classnames": predictor.classnames}
        write_json({**about, "images": predictions}, args.json)
    if args.picture:
        picture(predictions, args.picture, results, predictor.upright)


def main(argv=None):
    """Run one command line; returns the exit status."""
    return program.run(lambda: run(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
