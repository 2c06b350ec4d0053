"""Classify images with a finished run; for MoCoOp also say which experts the router picks, and how much of each.

    python predict.py --model-dir output/base2new/train_base/eurosat/shots_16/MoCoOp/vit_b16/seed1 field.jpg river.jpg
    python predict.py --model-dir RUN photos/ --output predictions.csv
    python predict.py --model-dir RUN data/my_photos/test --report evaluation
    python predict.py --model-dir RUN --classes "river,forest,highway" --picture routing.png photos/*.jpg

A folder stands for all images below it. The run's results.json says method, backbone, settings and class names, its
checkpoint has what was learned: the images that it was trained on aren't needed. Exit status: 0 done; 2 something the user
can mend (one `error: ...` line on stderr); 3 done, but some images can't be read (they are named); 130 Ctrl-C.
"""

import sys
import time
from pathlib import Path

from basics import UserError, home, printable, program, read_json
from basics.program import EXIT_STATUSES, Parser
from inference import MatrixPredictor, Predictor, as_text, gathering, picture, read_matrix, read_run, routing, scoring, writing

__all__ = ["Predictor", "routing"]  # for those who import this command
EXIT_UNREADABLE = 3
SHOWN = 20  # unreadable images, and folders without a class, that are named one by one
MANY = 100  # images: from here on they aren't printed one by one where a file has them


def build_parser():
    parser = Parser(
        prog=home.command("predict"),
        description="Classify images with a finished run; for MoCoOp also show the router's choice of experts.",
        epilog=f"{EXIT_STATUSES.rstrip('.')}; 3 done, but some images can't be read.",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, and folders with all images below them")
    parser.add_argument("--model-dir", required=True, metavar="RUN", help="folder of a finished run (its --output-dir)")
    parser.add_argument("--load-epoch", type=int, help="epoch whose checkpoint to load (default: the best or last)")
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--classes", metavar="A,B,C", help="choose among these classes (default: the run's own)")
    names.add_argument(
        "--classes-file", metavar="FILE", help="choose among the classes in this file: one a line, or a run's results.json"
    )
    names.add_argument(
        "--matrix", metavar="FILE",
        help="classify with this class matrix of the run (python -m inference.distil), without router and prompts",
    )  # fmt: skip
    parser.add_argument("--top", type=int, default=5, help="how many classes to name (default 5)")
    parser.add_argument(
        "--output", "-o", action="append", default=[], metavar="FILE",
        help="write the predictions: .csv, .json or .jsonl (JSON Lines), by the file's ending; may be given several times",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="the same as --output FILE, as JSON whatever the ending")
    parser.add_argument(
        "--report", metavar="FOLDER",
        help="where folders are classes: write accuracy, precision and recall of each class, the confusion of classes as a "
        "picture, and the mistakes as a list and as contact sheets",
    )  # fmt: skip
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


class Progress:
    """Says on stderr how far the work is: a bar on a terminal, else a line every few seconds."""

    SECONDS = 10.0

    def __init__(self, total):
        self.total, self.done, self.said = total, 0, time.monotonic()
        self.bar = None

    def __enter__(self):
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit=" images", leave=False)
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def add(self, count):
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.said > self.SECONDS:
            self.said = time.monotonic()
            say(f"{self.done:,} of {self.total:,} images")


def say(line):
    print(printable(line), file=sys.stderr, flush=True)


def run(args):
    """Predict what the arguments ask for; returns the exit status."""
    if args.top < 1:
        raise UserError(f"--top {args.top}: at least one class must be named")
    for file in args.output:
        writing.check_output(file)
    results, matrix = read_run(args.model_dir), read_matrix(args.matrix) if args.matrix else None
    if matrix and args.load_epoch is not None:
        raise UserError(
            f"--load-epoch {args.load_epoch} has no effect with --matrix: the matrix was made from one epoch's weights"
        )
    chosen = matrix.classnames if matrix else chosen_classes(args)
    gathering.check_named(args.images)
    say(f"Loading {results.get('trainer')} ({results.get('backbone')}) from {args.model_dir}")
    found = gathering.gather(args.images)
    for line in found.remarks():
        say(line)
    labels = labels_of(args, found, results, chosen)
    overrides = [word for pair in args.pairs for word in pair]
    if matrix:
        predictor = MatrixPredictor(args.model_dir, matrix, overrides)
    else:
        predictor = Predictor(args.model_dir, chosen, args.load_epoch, overrides)
    printed = len(found.images) < MANY or not (args.output or args.report)
    predictions, unreadable, scores = predict(predictor, found.images, labels, args.top, printed)
    if not predictions:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise UserError(f"{unreadable[0][1]}{more}: no image can be read")
    about = {key: results.get(key) for key in ("trainer", "dataset", "backbone")}
    about = {"run": args.model_dir, **about, "classnames": predictor.classnames, **({"matrix": args.matrix} if matrix else {})}
    for file in args.output:
        writing.write_predictions(predictions, unreadable, about, file)
    if args.json:
        writing.write_predictions(predictions, unreadable, about, args.json, ".json")
    if args.picture:
        picture(predictions, args.picture, results, predictor.upright)
    note = scoring.calibration_note(results)
    if note and not matrix and (chosen is None or chosen == results["classnames"]):
        say(note)
    if scores.true:
        report(args, predictions, scores, about, predictor)
    for file in filter(None, (*args.output, args.json)):
        say(f"{len(predictions):,} prediction(s) are in {file}")
    some_of("image(s) can't be read", [message for _, message in unreadable])
    return EXIT_UNREADABLE if unreadable else 0


def labels_of(args, found, results, chosen):
    """The class that each image's folder names, or None; says which folders name none though others do."""
    if (results["config"].get("DATASET") or {}).get("MULTI_LABEL"):
        if args.report:
            raise UserError("--report: images of this run have several labels, and folders of classes name one")
        return [None] * len(found.images)
    names = gathering.folder_names(results, chosen or results["classnames"], gathering.dataset_of(results))
    labels = gathering.truths(found, names)
    if any(labels):
        some_of("folder(s) have no class's name, so their images count in no score",
                gathering.unmatched(found, labels, names))  # fmt: skip
    elif args.report:
        classes = ", ".join(sorted(names.values())[:5]) + (" …" if len(names) > 5 else "")
        raise UserError(
            f"--report: no folder of these images has the name of a class (the classes are {classes}); arrange them as "
            "FOLDER/<class>/ and name FOLDER"
        )
    return labels


def predict(predictor, images, labels, top, printed):
    """(predictions, (path, message) of unreadable images, Scores of those whose class is known)."""
    predictions, unreadable, scores, turned = [], [], scoring.Scores(predictor.classnames), 0
    with Progress(len(images)) as progress:
        for batch in predictor.batches(images):
            described = predictor.described(batch, top)
            known = [i for i, position in enumerate(batch.positions) if labels[position] is not None]
            scores.add(batch.logits[known], [predictor.classnames.index(labels[batch.positions[i]]) for i in known])
            for prediction, position in zip(described, batch.positions):
                if labels[position] is not None:
                    truth = labels[position]
                    prediction.update(truth=truth, correct=truth == prediction["classes"][0]["name"])
            predictions += described
            unreadable += batch.unreadable
            turned += batch.turned
            progress.add(len(batch.images) + len(batch.unreadable))
    if printed and predictions:
        print(printable("\n\n".join(map(as_text, predictions))))
    if turned:
        note = f"Note: {turned} image(s) have an EXIF orientation and stay as they are stored, as in the run's own data"
        say(f"{note}; --set INPUT.EXIF_ORIENTATION apply turns them")
    return predictions, unreadable, scores


def report(args, predictions, scores, about, predictor):
    """Print the scores; write the report where one is asked for."""
    lines = scoring.as_lines(scores.report())
    print(printable("\n".join(["", *lines] if len(predictions) < MANY else lines)))
    if args.report:
        files = writing.write_report(predictions, scores, about, args.report, predictor.upright)
        mistakes = sum(p.get("correct") is False for p in predictions)
        say(f"{args.report}: {writing.as_report_lines(files, mistakes)}")


def some_of(what, lines):
    """Name the first of several things on stderr, and count them."""
    if lines:
        say("\n  ".join([f"{len(lines):,} {what}:", *lines[:SHOWN]]))
        if len(lines) > SHOWN:
            say(f"  … and {len(lines) - SHOWN:,} more")


def main(argv=None):
    """Run one command line; returns the exit status."""
    return program.run(lambda: run(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
