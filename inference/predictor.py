"""Classifies images with a finished run; where a method says why, as MoCoOp does with its router's choice, so does this."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basics import UserError
from basics.identity import describe, differences

from .loading import in_memory, loader
from .run import checkpoint_extras, configuration, read_run, without_images


@dataclass(frozen=True)
class Batch:
    """What a run says of some images.

    images: [B] of those that could be read, as they were given; positions: [B] theirs in what was given; logits: [B, C]
    float32 on the CPU; said: [B] what the method says of each, see its ``explained``; turned: how many have an EXIF
    orientation that isn't followed; unreadable: (image, message) of the others.
    """

    images: list[Any]
    positions: list[int]
    logits: Any
    said: list[dict[str, Any]]
    turned: int
    unreadable: list[tuple[Any, str]]


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
        temperature: what logits are divided by for probabilities (TEST.CALIBRATE); 1 with other classes than the run's.
        threshold: where images have several labels, the probability from which one counts (TEST.LABEL_THRESHOLD); else None.

    Raises:
        UserError: not a finished run, no or unfitting weights, a class list that the method can't use.
    """

    def __init__(
        self, run: str | Path, classes: list[str] | None = None, epoch: int | None = None, overrides: Sequence[Any] = ()
    ) -> None:
        from dassl.data import turns_photos
        from dassl.data.transforms import build_transform
        from dassl.engine import TRAINER_REGISTRY

        self.run, self.results = Path(run), read_run(run)
        cfg = configuration(self.results, overrides)
        trainer_class = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        self.classnames = list(self.results["classnames"])
        if classes is not None:
            self.classnames = list(classes)
            self._check_classes(trainer_class, cfg)
        with contextlib.redirect_stdout(io.StringIO()):  # what trainers say while they are built belongs in a log
            self.trainer = without_images(trainer_class, self.classnames, checkpoint_extras(run))(cfg)
            self._check_weights()
            self.trainer.load_model(str(run), epoch)
            self.transform = build_transform(self.trainer.cfg, is_train=False)
        self.threshold = cfg.TEST.LABEL_THRESHOLD if cfg.DATASET.MULTI_LABEL else None
        if self.threshold is not None and not self.trainer.get_model_names():  # nothing is learned, so no checkpoint has it
            self.trainer.label_bias = self.results["multi_label"]["bias"]
        own = self.classnames == self.results["classnames"]  # on whose validation images it was fitted
        self.temperature = float(self.results.get("temperature", 1.0)) if own else 1.0
        self.trainer.set_model_mode("eval")
        self.batch_size, self.upright = cfg.DATALOADER.TEST.BATCH_SIZE, turns_photos(cfg)

    def _check_classes(self, trainer_class, cfg):
        names, own = self.classnames, self.results["classnames"]
        twice = sorted({n for n in names if names.count(n) > 1})
        if not names or twice or not all(n.strip() for n in names):
            problem = f'"{twice[0]}" is given twice' if twice else "one is empty, or there is none"
            raise UserError(f"class names: {problem}")
        bound = getattr(trainer_class, "knows_its_classes_only", None)  # trainers written for Dassl don't say
        if names != own and bound is not None and bound(cfg):
            raise UserError(
                f"{self.run}: what this {cfg.TRAINER.NAME} learned belongs to its {len(own)} training classes, so it "
                "knows no others; leave out the class names"
            )

    def _check_weights(self):
        names, of_a_model = self.trainer.get_model_names(), self.trainer.weights_of_a_model
        here = self.trainer.made_from() if of_a_model else {}
        known = self.results.get("made_from") or {}
        found = differences({name: known[name] for name in of_a_model if name in known}, here)
        if found:
            raise UserError(
                f"{self.run} was made with {describe(found)}: what it has learned belongs to those weights (MODEL.BACKBONE.NAME "
                "and MODEL.BACKBONE.PATH say which are loaded)"
            )
        if names and self.results.get("eval_only") and not any((self.run / name).is_dir() for name in names):
            raise UserError(
                f"{self.run} is an evaluation, without weights of its own: give the training run that it evaluated as "
                f"--model-dir, and --classes-file {self.run / 'results.json'} for these class names"
            )

    def __call__(self, images: Sequence[Any], top: int = 5) -> list[dict[str, Any]]:
        """Classify images.

        Args:
            images: paths of files, PIL images, NumPy arrays or tensors; see ``loading.pixels``.
            top: how many classes to name.

        Returns:
            One dict an image: ``image``, its path (of an image in memory: its place in the list); ``classes``, the ``top``
            likeliest, each ``{"name", "probability"}`` (a share of 1, over all classes; where images have several labels, each
            class has its own, and ``labels`` names those from ``threshold`` on); and what the method says of it, see
            its ``explained``: MoCoOp's ``experts``.

        Raises:
            UserError: an image that is missing or can't be decoded.
        """
        images = [image if in_memory(image) else os.fspath(image) for image in images]
        check_paths([image for image in images if not in_memory(image)])
        predictions = []
        for batch in self.batches(images):
            if batch.unreadable:
                raise UserError(batch.unreadable[0][1])
            predictions += self.described(batch, top)
        return predictions

    def batches(self, images: Sequence[Any]) -> Iterator[Batch]:
        """Logits of images, batch by batch, in their order; those that can't be read are named and left out.

        Args:
            images: as of a call; worker processes load files.

        Raises:
            UserError: scores that are no numbers.
        """
        import torch

        from dassl.evaluation import check_finite

        if not images:
            return
        cfg, trainer = self.trainer.cfg, self.trainer
        for batch in loader(cfg, images, self.transform, self.batch_size):
            positions, problems = batch["index"].tolist(), batch["problem"]
            read = [i for i, problem in enumerate(problems) if not problem]
            logits, said = torch.zeros(0, len(self.classnames)), []
            if read:
                pixels = (batch["img"] if len(read) == len(problems) else batch["img"][read]).to(trainer.device)
                with torch.no_grad():
                    if hasattr(trainer, "explained"):
                        logits, said = trainer.explained(pixels)
                    else:  # a trainer written for Dassl
                        logits, said = trainer.model_inference(pixels), [{}] * len(read)
                check_finite(logits)
            yield Batch(
                images=[images[positions[i]] for i in read],
                positions=[positions[i] for i in read],
                logits=logits.float().cpu(),
                said=said,
                turned=int(batch["turned"].sum()),
                unreadable=[(images[p], problem) for p, problem in zip(positions, problems) if problem],
            )

    def described(self, batch: Batch, top: int = 5) -> list[dict[str, Any]]:
        """One dict for each image of a batch, as of a call."""
        several = self.threshold is not None
        shares = batch.logits.sigmoid() if several else (batch.logits / self.temperature).softmax(dim=-1)  # [B, C]
        probability, label = shares.topk(min(top, len(self.classnames)), dim=-1)  # [B, top]
        names = [position if in_memory(image) else image for image, position in zip(batch.images, batch.positions)]
        of = lambda ps, cs: [{"name": self.classnames[c], "probability": p} for p, c in zip(ps, cs)]  # noqa: E731
        rows = zip(names, probability.tolist(), label.tolist(), batch.said, strict=True)
        found = [{"image": name, "classes": of(ps, cs), **said} for name, ps, cs, said in rows]
        for described, own in zip(found, shares.ge(self.threshold).tolist() if several else ()):
            described["labels"] = [name for name, has in zip(self.classnames, own) if has]
        return found


def check_paths(paths: Sequence[str]) -> None:
    """UserError where a path is no file: one that was named is there, or its name is mistyped."""
    for path in paths:
        if os.path.isdir(path):
            raise UserError(f"{path} is a folder: name the images in it, for example {os.path.join(path, '*')}")
        if not os.path.isfile(path):
            raise UserError(f"image not found: {path}")


def routing(
    run: str | Path, images: list[str], classes: list[str] | None = None, top: int = 5, overrides: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """Where the router of a finished MoCoOp run sends images (the paper's Figure 5).

    Args: as of ``Predictor`` and its call.

    Returns:
        One dict per image: ``image``, ``classes``, ``experts`` (see ``Predictor.__call__``).

    Raises:
        UserError: as ``Predictor``, and for a run of a method without router.
    """
    predictor = Predictor(run, classes, overrides=overrides)
    if not getattr(predictor.trainer, "has_experts", False):
        raise UserError(f"{run}: {predictor.results['trainer']} has no router; routing needs a run of MoCoOp")
    return predictor(images, top)


def as_text(prediction: dict[str, Any]) -> str:
    """One prediction as lines for a terminal: classes by probability, then experts by weight."""
    lines = [str(prediction["image"])]
    lines += [f"  {per_cent(c['probability'])} %  {c['name']}" for c in prediction["classes"]]
    if "labels" in prediction:
        lines.append(f"  labels: {', '.join(prediction['labels']) or 'none'}")
    experts = prediction.get("experts")
    if experts:
        chosen = sum(e["chosen"] for e in experts)
        lines.append(f"  router: weights of {len(experts)} experts; the {chosen} marked * are mixed, in these parts")
        for e in sorted(experts, key=lambda e: -e["weight"]):
            part = f"* {e['mixing']:.3f}" if e["chosen"] else " " * 7
            lines.append(f'  {100 * e["weight"]:6.2f} %  {part}  {e["name"]}: "{e["template"]}"')
    return "\n".join(lines)


def per_cent(share: float) -> str:
    """A share of 1 in per cent, six characters. One below 1 is never printed as 100: a softmax doesn't reach it."""
    return ">99.99" if share > 0.9999 else f"{100 * share:6.2f}"
