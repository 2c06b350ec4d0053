"""A finished MoCoOp run as one matrix with a row for each class, and what that costs in accuracy.

    python -m inference.distil RUN --root data --out distilled

The mixing weights of all images are replaced by their mean over the run's training images, so that the experts' text features of
a class become one row. ``--fit`` then moves the rows of the trained classes until their probabilities on the training images are
the model's. Test images only measure the loss. Files: `<classes>.safetensors` (`classes` [C, E], fp32; names, factor and origin
in its metadata) and `distilled.json`. `predict.py --matrix FILE` classifies with such a file.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from basics import UserError, home, program, write_json
from basics.program import EXIT_STATUSES, Parser

from .matrix import FORMAT
from .run import configuration, read_run


def build_parser():
    parser = Parser(prog=home.command("distil"), description=__doc__.split("\n", 1)[0], epilog=EXIT_STATUSES)
    parser.add_argument("run", metavar="RUN", help="folder of a finished MoCoOp training run")
    parser.add_argument("--root", help="folder that holds the datasets (default: the run's own)")
    parser.add_argument("--out", metavar="FOLDER", help="where the files go (default: RUN/distilled)")
    parser.add_argument("--load-epoch", type=int, help="epoch whose checkpoint to load (default: the best or last)")
    parser.add_argument("--fit", action="store_true", help="fit the rows to the model's probabilities on the training images")
    parser.add_settings("change a setting of the run, e.g. --set MODEL.BACKBONE.PATH /weights/ViT-B-16.pt")
    return parser


def build(results, overrides, run, epoch):
    """The run's trainer with its data, weights loaded, in evaluation mode."""
    from dassl.engine import TRAINER_REGISTRY

    cfg = configuration(results, overrides)
    trainer_class = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not getattr(trainer_class, "has_experts", False):
        raise UserError(f"{run}: {results['trainer']} has no mixture of experts; distil takes a run of MoCoOp")
    if cfg.DATASET.MULTI_LABEL:
        raise UserError(f"{run}: its images have several labels (DATASET.MULTI_LABEL); distil takes runs with one label an image")
    with contextlib.redirect_stdout(io.StringIO()):  # what trainers say while they are built belongs in a log
        trainer = trainer_class(cfg)
        trainer.load_model(str(run), epoch)
    if not trainer.image_learning.takes_features:
        raise UserError(
            f"{run}: it learned {trainer.image_learning.value} (TRAINER.MOCOOP.TUNE_LAYERNORM or PROMPT_DEPTH_VISION), so a "
            "matrix beside CLIP's image encoder isn't its model"
        )
    if trainer.options.META_NET:
        raise UserError(f"{run}: its prompts depend on the image (TRAINER.MOCOOP.META_NET), so no matrix is its model")
    trainer.set_model_mode("eval")
    return trainer


def distil(run, out, overrides=(), epoch=None, fit=False):
    """Write the files; returns what distilled.json holds.

    Raises:
        UserError: not a finished training run of MoCoOp, or its data aren't there.
    """
    results = read_run(run)
    if results.get("eval_only"):
        raise UserError(f"{run} is an evaluation: give the training run whose model it evaluated")
    trainer = build(results, overrides, run, epoch)
    from trainers.mocoop import distil as matrices

    quietly = lambda: contextlib.redirect_stdout(io.StringIO())  # noqa: E731  (which features were kept)
    with quietly():
        features, _ = trainer.features_of(trainer.loader_of(trainer.dm.dataset.train_x))
    mixing = matrices.mean_mixing(trainer, features)
    names = [group.name for group in trainer.groups]
    found = {
        "run": str(run), "trainer": results["trainer"], "dataset": results["dataset"], "backbone": results["backbone"],
        "fingerprint": results["fingerprint"], "training_images": len(features),
        "mixing": dict(zip(names, mixing.tolist())), "classes": {},
    }  # fmt: skip
    subset = results["subsample_classes"]
    for classes in (subset, "new") if subset == "base" else (subset,):
        if classes != subset:
            trainer = build(results, [*overrides, "DATASET.SUBSAMPLE_CLASSES", classes], run, epoch)
        matrix, fits = matrices.class_matrix(trainer, mixing), fit and classes == subset
        matrix = matrices.fitted(trainer, matrix, features) if fits else matrix
        with quietly():
            said = {**matrices.compared(trainer, matrix), "fitted": fits}
        save(matrix, trainer, found, said, out / f"{classes}.safetensors", float(trainer.scale))
        found["classes"][classes] = {**said, "lost": said["model"] - said["matrix"]}
    write_json(found, str(out / "distilled.json"))
    return found


def save(matrix, trainer, found, said, file, scale):
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "classnames": list(trainer.dm.dataset.classnames), "scale": scale, "backbone": found["backbone"], "run": found["run"],
        "made_from": trainer.made_from(), "format": FORMAT, "fingerprint": found["fingerprint"], **said,
    }  # fmt: skip
    save_file(
        {"classes": matrix.float().cpu().contiguous()}, str(file), metadata={key: json.dumps(v) for key, v in about.items()}
    )


def run(args):
    folder = Path(args.run)
    print(f"Loading {folder}", file=sys.stderr, flush=True)
    out = Path(args.out) if args.out else folder / "distilled"
    root = ["DATASET.ROOT", args.root] if args.root else []
    found = distil(folder, out, [*root, *(word for pair in args.pairs for word in pair)], args.load_epoch, args.fit)
    for classes, said in found["classes"].items():
        print(
            f"{classes} classes: model {said['model']:.2f}%, matrix{' (fitted)' * said['fitted']} {said['matrix']:.2f}% "
            f"({-said['lost']:+.2f}), the same answer on {said['agree']:.1f}% of {said['images']:,} test images"
        )
    print(f"written: {out}")


def main(argv=None):
    """Run one command line; returns the exit status."""
    return program.run(lambda: run(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
