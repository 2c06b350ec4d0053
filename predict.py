"""Classify images with a finished run; for MoCoOp also say which experts the router picks, and how much of each.

    python predict.py --model-dir output/base2new/train_base/eurosat/shots_16/MoCoOp/vit_b16/seed1 field.jpg river.jpg
    python predict.py --model-dir RUN --classes "river,forest,highway" --picture routing.png photos/*.jpg

The run's results.json says method, backbone, settings and class names, its checkpoint has what was learned: the
dataset isn't needed. Exit status: 0 done; 2 something the user can mend (one `error: ...` line on stderr); 130 Ctrl-C.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from basics import UserError, printable, program, read_json, write_json
from basics.program import EXIT_STATUSES, Parser

# Engine and methods are imported inside functions: `--help` and a mistyped option then answer at once.


# -- a run -----------------------------------------------------------------------------------------------------------


def read_run(folder):
    """The contents of results.json of a finished run.

    Raises:
        UserError: no such folder, not a run's folder, or a run that isn't finished.
    """

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no such run folder: {folder}")
    file = folder / "results.json"
    if not file.is_file():
        if (folder / "log.txt").exists() or (folder / "resume").exists() or list(folder.glob("*/model*.pth.tar*")):
            raise UserError(f"{folder} is an unfinished run (no results.json yet): let it come to its end first")
        inside = " or ".join(str(p.parent) for p in sorted(folder.glob("*/results.json"))[:3])
        hint = f"did you mean {inside}?" if inside else "give the folder that train.py was told as --output-dir"
        raise UserError(f"{folder} is not a run folder (it has no results.json); {hint}")
    results = read_json(file)
    if not isinstance(results, dict) or not isinstance(results.get("config"), dict) or not results.get("classnames"):
        raise UserError(f"{file}: not the results of a run (it lacks config or classnames)")
    if not isinstance(results["classnames"], list) or not all(isinstance(n, str) for n in results["classnames"]):
        raise UserError(f"{file}: its classnames are not a list of names")
    if results.get("status") != "finished":
        raise UserError(f"{folder} is an unfinished run: let its training come to an end first")
    return results


def configuration(results, overrides=()):
    """The frozen configuration of a run, from its results.json; ``overrides``: [KEY, VALUE, ...] that win over it."""
    import trainers
    from dassl.config import check, get_cfg_default

    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.merge_from_other_cfg(results["config"])
    cfg.merge_from_list(list(overrides))
    cfg.VERBOSE = False
    check(cfg)
    cfg.MODEL.INIT_WEIGHTS = ""  # where training started from; the checkpoint has where it ended
    cfg.freeze()
    return cfg


def without_images(trainer_class, classnames, groups=None):
    """Subclass of a trainer that is built from class names alone: no dataset, no loaders.

    Args:
        trainer_class: a registered trainer.
        classnames: [C] names, in label order.
        groups: MoCoOp's template groups, in place of those that the configuration names; None leaves that to it.
    """
    names = list(classnames)
    lab2cname = dict(enumerate(names))
    counts = {"num_classes": len(names), "lab2cname": lab2cname}
    dataset = SimpleNamespace(classnames=names, all_classnames=names, train_x=[], val=[], test=[], **counts)

    class WithoutImages(trainer_class):
        def build_data_loader(self):
            self.dm = SimpleNamespace(dataset=dataset, num_source_domains=0, **counts)
            self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
            self.num_classes, self.num_source_domains, self.lab2cname = len(names), 0, lab2cname

    if groups is not None:
        WithoutImages.build_learner = lambda self, _: self.learner_for(groups)
    return WithoutImages


def saved_groups(folder):
    """The template groups that a run's checkpoint carries (the file they came from may be gone), or None."""
    from dassl.utils import load_checkpoint
    from trainers.mocoop.parts import from_plain

    for file in sorted(Path(folder).glob("*/model*.pth.tar*"))[-1:]:
        groups = (load_checkpoint(str(file)).get("extras") or {}).get("template_groups")
        return from_plain(groups) if groups else None
    return None


class Predictor:
    """The model of a finished run.

    Args:
        run: the run's folder.
        classes: [C] class names to choose among; None for the run's own.
        epoch: load the checkpoint of this epoch; None for the best, else the last.
        overrides: [KEY, VALUE, ...] of the configuration, e.g. ["MODEL.BACKBONE.PATH", "ViT-B-16.pt"].

    Attributes:
        results: the run's results.json.
        classnames: [C] names.
        trainer: the trainer, weights loaded, in evaluation mode.

    Raises:
        UserError: not a finished run, no or unfitting weights, a class list that the method can't use.
    """

    def __init__(self, run, classes=None, epoch=None, overrides=()):
        from dassl.data import turns_photos
        from dassl.data.transforms import build_transform
        from dassl.engine import TRAINER_REGISTRY

        self.run, self.results = Path(run), read_run(run)
        cfg = configuration(self.results, overrides)
        groups = saved_groups(run)
        self.classnames = list(self.results["classnames"])
        if classes is not None:
            self.classnames = list(classes)
            self._check_classes(cfg)
        with contextlib.redirect_stdout(io.StringIO()):  # what trainers say while they are built belongs in a log
            self.trainer = without_images(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), self.classnames, groups)(cfg)
            self._check_weights()
            self.trainer.load_model(str(run), epoch)
            self.transform = build_transform(cfg, is_train=False)
        self.trainer.set_model_mode("eval")
        self.router = getattr(getattr(self.trainer, "learner", None), "router", None)
        self.batch_size, self.upright = cfg.DATALOADER.TEST.BATCH_SIZE, turns_photos(cfg)

    def _check_classes(self, cfg):
        from dassl.engine import TRAINER_REGISTRY

        names, own = self.classnames, self.results["classnames"]
        twice = sorted({n for n in names if names.count(n) > 1})
        if not names or twice or not all(n.strip() for n in names):
            problem = f'"{twice[0]}" is given twice' if twice else "one is empty, or there is none"
            raise UserError(f"class names: {problem}")
        options = cfg.TRAINER.get(getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "section", ""), {})
        class_specific = options.get("CSC") and not options.get("CTX_INIT")
        if names != own and (class_specific or cfg.TRAINER.NAME == "LinearProbe"):
            raise UserError(
                f"{self.run}: what this {cfg.TRAINER.NAME} learned belongs to its {len(own)} training classes, so it "
                "knows no others; leave out the class names"
            )

    def _check_weights(self):

        names = self.trainer.get_model_names()
        if names and self.results.get("eval_only") and not any((self.run / name).is_dir() for name in names):
            raise UserError(
                f"{self.run} is an evaluation, without weights of its own: give the training run that it evaluated as "
                f"--model-dir, and --classes-file {self.run / 'results.json'} for these class names"
            )

    def __call__(self, images, top=5):
        """Classify image files.

        Args:
            images: paths.
            top: how many classes to name.

        Returns:
            One dict an image: ``image``, its path; ``classes``, the ``top`` likeliest, each ``{"name", "probability"}``
            (a share of 1, over all classes); and, from a method with a router, ``experts`` in the order of the template
            groups, each ``{"name", "template", "weight", "chosen", "mixing"}``: the template that the expert started
            from, its share in the softmax over all experts, whether it is one of the k chosen, its share in their
            mixture.

        Raises:
            UserError: an image that is missing or can't be decoded.
        """

        images = [os.fspath(path) for path in images]
        for path in images:
            if not os.path.isfile(path):
                raise UserError(f"image not found: {path}")
        predictions = []
        for start in range(0, len(images), self.batch_size):
            predictions += self._batch(images[start : start + self.batch_size], top)
        return predictions

    def _batch(self, paths, top):
        import torch

        from dassl.utils import read_image

        batch = torch.stack([self.transform(read_image(path, self.upright)) for path in paths]).to(self.trainer.device)
        routed, scores = self.router is not None, []  # the router's scores, as the prediction itself uses them
        hook = routed and self.router.register_forward_hook(lambda module, args, output: scores.append(output))
        try:
            with torch.no_grad():
                logits = self.trainer.model_inference(batch)
        finally:
            if hook:
                hook.remove()
        shares = logits.float().softmax(dim=-1)  # [B, C]
        probability, label = shares.topk(min(top, len(self.classnames)), dim=-1)  # [B, top]
        predictions = [
            {"image": path, "classes": [{"name": self.classnames[c], "probability": p} for p, c in zip(ps, cs)]}
            for path, ps, cs in zip(paths, probability.tolist(), label.tolist())
        ]
        if routed:
            for prediction, experts in zip(predictions, self._experts(scores[-1].float())):
                prediction["experts"] = experts
        return predictions

    def _experts(self, scores):
        """Router scores [B, G] -> the ``experts`` of every image."""
        from trainers.mocoop.losses import top_k_weights

        k = self.trainer.options.TOP_K
        weights, mixing, best = scores.softmax(dim=-1), top_k_weights(scores, k), scores.topk(k, dim=-1).indices
        described = [{"name": g.name, "template": g.templates[0]} for g in self.trainer.groups]
        return [
            [{**d, "weight": ws[i], "chosen": i in chosen, "mixing": ms[i]} for i, d in enumerate(described)]
            for ws, ms, chosen in zip(weights.tolist(), mixing.tolist(), best.tolist())
        ]


def routing(run, images, classes=None, top=5, overrides=()):
    """Where the router of a finished MoCoOp run sends images (the paper's Figure 5).

    Args: as of ``Predictor`` and its call.

    Returns:
        One dict per image: ``image``, ``classes``, ``experts`` (see ``Predictor.__call__``).

    Raises:
        UserError: as ``Predictor``, and for a run of a method without router.
    """

    predictor = Predictor(run, classes, overrides=overrides)
    if predictor.router is None:
        raise UserError(f"{run}: {predictor.results['trainer']} has no router; routing needs a run of MoCoOp")
    return predictor(images, top)


# -- output ----------------------------------------------------------------------------------------------------------


def as_text(prediction):
    """One prediction as lines for a terminal: classes by probability, then experts by weight."""
    lines = [prediction["image"]]
    lines += [f"  {100 * c['probability']:6.2f} %  {c['name']}" for c in prediction["classes"]]
    experts = prediction.get("experts")
    if experts:
        chosen = sum(e["chosen"] for e in experts)
        lines.append(f"  router: weights of {len(experts)} experts; the {chosen} marked * are mixed, in these parts")
        for e in sorted(experts, key=lambda e: -e["weight"]):
            part = f"* {e['mixing']:.3f}" if e["chosen"] else " " * 7
            lines.append(f'  {100 * e["weight"]:6.2f} %  {part}  {e["name"]}: "{e["template"]}"')
    return "\n".join(lines)


# -- command line ----------------------------------------------------------------------------------------------------


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
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="change a setting of the run, e.g. --set MODEL.BACKBONE.PATH /weights/ViT-B-16.pt",
    )
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

    if args.top < 1:
        raise UserError(f"--top {args.top}: at least one class must be named")
    overrides = [word for pair in args.set for word in pair]
    predictor = Predictor(args.model_dir, chosen_classes(args), args.load_epoch, overrides)
    predictions = predictor(args.images, args.top)
    print(printable("\n\n".join(map(as_text, predictions))))
    results = predictor.results
    if args.json:
        about = {key: results[key] for key in ("trainer", "dataset", "backbone")}
        about = {"run": args.model_dir, **about, "classnames": predictor.classnames}
        write_json({**about, "images": predictions}, args.json)
    if args.picture:
        from predict_picture import picture

        picture(predictions, args.picture, results)


def main(argv=None):
    """Run one command line; returns the exit status."""
    return program.run(lambda: run(build_parser().parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
