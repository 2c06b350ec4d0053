"""A trained classifier for programs without this project: its class features, or all of it as ONNX.

    python -m inference.export RUN --output classifier

writes `classifier.json` (classes, images, scale), `classifier.safetensors` (class features; of MoCoOp also the router) and, with
the packages of `pip install mocoop[export]`, `classifier.onnx`: image encoder and classifier. docs/export.md has readers.

Only what is exact is written: the exported classifier is compared with the run's own on the spot. Exit status: 0 done; 2
something the user can mend.
"""

import os
import sys
from pathlib import Path
from typing import Any

from basics import UserError, atomic_path, home, mkdir_if_missing, program, write_json
from basics.hashes import file_hash
from basics.program import EXIT_STATUSES, Parser

from .predictor import Predictor

CLOSE = 1e-4  # of the largest logit: rounding
FORMAT = "mocoop classifier 1"
NAMES = {"json": "classifier.json", "tensors": "classifier.safetensors", "onnx": "classifier.onnx"}


def export(predictor: Predictor, folder: str | Path, onnx: bool = True) -> list[str]:
    """Write the classifier of a run.

    Args:
        predictor: of the run, on the CPU.
        folder: made where it doesn't exist; files of an earlier export in it are replaced.
        onnx: also as ONNX, which takes a minute.

    Returns:
        Names of the files.

    Raises:
        UserError: a method whose classifier can't be written exactly, with the reason; packages for ONNX are missing.
    """
    from safetensors.torch import save_file

    head, side = _head_of(predictor)
    if side is not None and not onnx:
        name = predictor.results.get("trainer")
        raise UserError(f"export: {name} has an image side of its own, which only the ONNX file can hold; leave out --no-onnx")
    mkdir_if_missing(folder)
    path = {kind: os.path.join(folder, name) for kind, name in NAMES.items()}
    for name in path.values():  # nobody may take an earlier export's file for this one's
        Path(name).unlink(missing_ok=True)
    files = [NAMES["tensors"], *([NAMES["onnx"]] if onnx else [])]
    if onnx:
        _write_onnx(predictor, head, side, path["onnx"])
    with atomic_path(path["tensors"]) as part:
        save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, part)
    hashes = {name: file_hash(os.path.join(folder, name)) for name in files}
    learned = {"image_side": "learned"} if side is not None else {}
    several = {"multi_label": head.multi_label} if head.multi_label else {}
    write_json({**_about(predictor), **learned, **head.settings(), **several, "sha256": hashes}, path["json"])
    return [*files, NAMES["json"]]


def _head_of(predictor):
    """(the classifier, the method's own image side or None), compared with the run's own logits."""
    import torch

    trainer = predictor.trainer
    if not hasattr(trainer, "exported_head"):
        name = predictor.results.get("trainer")
        raise UserError(f"export: {name} is another project's trainer, which doesn't say what it computes")
    head, side = trainer.exported_head(), trainer.exported_image_side()
    if predictor.threshold is not None:
        head.multi_label = {"bias": trainer.label_bias, "threshold": predictor.threshold}
    images = _noise(predictor, 3, seed=2)
    with torch.no_grad():
        features = side(images) if side is not None else trainer.clip.encode_image(images, raw=True)
        check_same(predictor, head(features), images, "the exported logits")
    return head, side


def _noise(predictor, count, seed):
    import torch

    rows, columns = predictor.trainer.cfg.INPUT.SIZE
    return torch.randn(count, 3, rows, columns, generator=torch.Generator().manual_seed(seed))


def check_same(predictor: Predictor, found: Any, images: Any, what: str) -> None:
    """UserError where logits [B, C] of images [B, 3, R, R] aren't the run's own, but for rounding."""
    import torch

    with torch.no_grad():
        expected = predictor.trainer.model_inference(images).float()
    difference = float((found - expected).abs().max())
    if not difference <= CLOSE * max(1.0, float(expected.abs().max())):
        raise UserError(
            f"export: {what} differ by {difference:.2g} from those of {predictor.results.get('trainer')}, so nothing is written: "
            "it computes more than CLIP's image feature and class features"
        )


def _about(predictor: Predictor) -> dict[str, Any]:
    """What a reader needs beside tensors: classes, and how an image is prepared."""
    images, results = predictor.trainer.cfg.INPUT, predictor.results
    weights = results.get("weights") or {}
    return {
        "format": FORMAT,
        **{key: results.get(key) for key in ("trainer", "dataset", "backbone", "fingerprint")},
        "image_encoder_sha256": weights.get("state_sha256") if isinstance(weights, dict) else None,
        "classnames": predictor.classnames,
        "images": {
            "size": list(images.SIZE), "resize": images.RESIZE_MODE, "interpolation": images.INTERPOLATION,
            "mean": list(images.PIXEL_MEAN), "std": list(images.PIXEL_STD), "turned_as_exif_says": predictor.upright,
        },
    }  # fmt: skip


def _write_onnx(predictor, head, side, file):
    """Image encoder and head, [B, 3, R, R] normalised pixels -> logits [B, C], for any B; compared with the run's own.

    side: of a method that learns on images; the file then gives its features [B, F], too.
    """
    try:
        import onnx  # noqa: F401  (torch writes with these two, the third reads)
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as e:
        raise UserError(f"ONNX needs the package {e.name}: pip install 'mocoop[export]', or --no-onnx") from e
    import contextlib
    import io
    import warnings

    import torch

    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.head = predictor.trainer.clip.visual if side is None else side, head

        def forward(self, images):
            features = self.visual(images)
            features = features[0] if isinstance(features, tuple) else features
            return (self.head(features), features) if side is not None else self.head(features)

    example, others = _noise(predictor, 2, seed=3), _noise(predictor, 3, seed=4)
    with atomic_path(file) as part, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself; what was written is compared below
        outputs = ["logits", *(["features"] if side is not None else [])]
        try:
            torch.onnx.export(
                Classifier().eval(), (example,), part, dynamo=True, external_data=False, verbose=False, input_names=["images"],
                output_names=outputs, dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        except Exception as e:
            first = (str(e).strip() or type(e).__name__).splitlines()[0][:200]
            what = f"{predictor.results.get('trainer')}'s own image side" if side is not None else "this image encoder"
            raise UserError(
                f"export: PyTorch {torch.__version__} can't write {what} as ONNX ({first}); known to work: 2.14"
            ) from e
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
        for images in (example, others):
            found = session.run(None, {"images": images.numpy()})[0]
            check_same(predictor, torch.from_numpy(found), images, "onnxruntime's logits")


def run(args):
    """Do what the arguments say."""
    words = [word for pair in args.pairs for word in pair]
    print(f"Loading {args.run}", file=sys.stderr, flush=True)
    predictor = Predictor(args.run, epoch=args.load_epoch, overrides=[*words, "USE_CUDA", "False"])
    files = export(predictor, args.output, args.onnx)
    print(f"{args.output}: {', '.join(files)}")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    parser = Parser(prog=home.command("export"), description=__doc__.split("\n\n")[0], epilog=EXIT_STATUSES)
    parser.add_argument("run", metavar="RUN", help="folder of a finished run (its --output-dir)")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--load-epoch", type=int, help="epoch whose checkpoint to load (default: the best or last)")
    parser.add_argument("--no-onnx", dest="onnx", action="store_false", help="class features only, without the image encoder")
    parser.add_settings("change a setting of the run, e.g. --set MODEL.BACKBONE.PATH /weights/ViT-B-16.pt")
    return program.run(lambda: run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
