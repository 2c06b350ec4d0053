"""Trainers for classification: data, the batch loop with its log, evaluation, the moments at which models are saved."""

import datetime
import os.path as osp
import sys
import time

import numpy as np
import torch
import torch.nn as nn
from tqdm import tqdm

from ..data import DataManager
from ..evaluation import EVALUATOR_REGISTRY, build_evaluator, check_calibrated, check_finite, validation_temperature
from ..modeling import build_backbone, build_head
from ..optim import build_lr_scheduler, build_optimizer
from ..utils import (
    AverageMeter,
    MetricMeter,
    UserError,
    count_num_param,
    load_pretrained_weights,
    parallel,
)
from .base import TrainerBase
from .evaluated import trained_with
from .predictions import check_can_save, save_predictions
from .provenance import frozen_hash
from .results import same_as_recorded, write_results
from .run_folder import EVALUATION, TRAINING, RunFolder, earlier_run, resumed_folder

__all__ = ["SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU"]


def __getattr__(name):
    """``SummaryWriter``, which trainer files take from here; TensorBoard takes seconds to import, so only then."""
    if name == "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SimpleNet(nn.Module):
    """A backbone, an optional head and a linear classifier (none when ``num_classes`` is 0)."""

    def __init__(self, cfg, model_cfg, num_classes, **kwargs):
        super().__init__()
        self.backbone = build_backbone(
            model_cfg.BACKBONE.NAME, verbose=cfg.VERBOSE, pretrained=model_cfg.BACKBONE.PRETRAINED, **kwargs
        )
        self._fdim = self.backbone.out_features
        self.head = None
        if model_cfg.HEAD.NAME and model_cfg.HEAD.HIDDEN_LAYERS:
            self.head = build_head(
                model_cfg.HEAD.NAME, verbose=cfg.VERBOSE, in_features=self._fdim,
                hidden_layers=model_cfg.HEAD.HIDDEN_LAYERS, activation=model_cfg.HEAD.ACTIVATION,
                bn=model_cfg.HEAD.BN, dropout=model_cfg.HEAD.DROPOUT, **kwargs,
            )  # fmt: skip
            self._fdim = self.head.out_features
        self.classifier = nn.Linear(self._fdim, num_classes) if num_classes > 0 else None

    @property
    def fdim(self):
        """The width of the features."""
        return self._fdim

    def forward(self, x, return_feature=False):
        """Return scores [B, C] (features [B, D] without a classifier), with ``return_feature`` (scores, features)."""
        f = self.backbone(x)
        if self.head is not None:
            f = self.head(f)
        if self.classifier is None:
            return f
        y = self.classifier(f)
        return (y, f) if return_feature else y


class SimpleTrainer(TrainerBase):
    """A trainer with data, one or more models, and an evaluator. A method fills in the hooks.

    The device is CUDA where there is one and ``USE_CUDA`` allows it, else the CPU.

    Attributes of a class:
        learns: whether there is something to train.
        gives_logits: the softmax of the scores is the classifier's probabilities: evaluations say how well calibrated they are.
        weights_of_a_model: names in ``made_from`` without which what is learned means nothing.
        epochs_only_in_schedule: OPTIM.MAX_EPOCH changes nothing but the learning rate and the end of training, so that a
            run may be made longer where its rates stay as they were.
    """

    gives_logits = False
    learns = True
    weights_of_a_model: tuple[str, ...] = ()
    epochs_only_in_schedule = False

    def __init__(self, cfg):
        super().__init__()
        self._time_created = time.monotonic()
        self._results_written = False
        self._claimed = False
        self._trained = False
        self.check_cfg(cfg)
        if cfg.DATASET.MULTI_LABEL and not self.has_several_labels():
            raise UserError(
                f"DATASET.MULTI_LABEL: {cfg.TRAINER.NAME} has no loss for images with several labels; docs/own-photos.md names "
                "the methods that have one"
            )
        if parallel.world_size() > 1:
            self.check_parallel()
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.evaluator.gives_logits = self.gives_logits
        if cfg.TEST.SAVE_PREDICTIONS:
            check_can_save(self)
        if cfg.TEST.CALIBRATE and not cfg.TEST.NO_TEST:
            check_calibrated(self)
        self.best_result = -np.inf

    def check_cfg(self, cfg):
        """Hook: raise an error for settings that the method cannot work with."""

    @classmethod
    def has_several_labels(cls):
        """Hook: whether the method can train on images with several labels, a batch's ``label`` being [B, C]."""
        return False

    def check_parallel(self):
        """Hook: raise UserError unless the method computes the same loss when several processes share each batch."""
        raise UserError(
            f"{type(self).__name__} runs in one process: start it with python in place of torchrun. torchrun is for "
            "the methods of this project and others that are built on PromptTrainer"
        )

    def build_data_loader(self):
        """Create ``dm``, the loaders, ``num_classes``, ``num_source_domains`` and ``lab2cname``."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self):
        """Build and register the model; by default ``SimpleNet`` with ``cfg.OPTIM``'s optimiser and schedule."""
        cfg = self.cfg
        print("Building model")
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self):
        """Train as configured, from where an interrupted run in the output folder stopped; then evaluate."""
        self.check_validation_images(best=self.cfg.TEST.FINAL_MODEL == "best_val")
        super().train(self.start_epoch, self.max_epoch)
        self.ensure_results()

    def check_validation_images(self, best=False):
        """UserError where the configuration asks for validation images and there are none; a warning where they are test images.

        best: the best epoch is chosen on them.
        """
        test = self.cfg.TEST
        if test.NO_TEST or not (best or test.SPLIT == "val"):
            return
        setting = "TEST.FINAL_MODEL best_val" if best else "TEST.SPLIT val"
        if self.val_loader is None:
            raise UserError(
                f"{setting}: {self.cfg.DATASET.NAME} has no validation images here; add some, or set TEST.SPLIT test and "
                "TEST.FINAL_MODEL last_step"
            )
        val, test = ({item.impath for item in data} for data in (self.dm.dataset.val, self.dm.dataset.test))
        if val & test:
            print(f"WARNING: {setting}: {len(val & test)} of {len(val)} validation images are test images, too")

    def before_train(self):
        """Resume if there is something to resume from, and open the loggers."""
        self._trained = True
        self.time_start = time.time()
        self.claim(TRAINING)
        self.start_epoch = self.resume_model_if_exist(self._resume_from())
        self.init_writer(osp.join(self.output_dir, "tensorboard"))

    def claim(self, kind):
        """Take the output folder for this run (TRAINING or EVALUATION). UserError when it is another run's."""
        if self._claimed:
            return
        self._claimed = True
        with parallel.main_first():
            if parallel.is_main():
                self._run_folder = RunFolder(self, kind)

    def _resume_from(self):
        """The output folder once it has a checkpoint; before that the one that RESUME names."""
        if not resumed_folder(self.cfg):
            return self.output_dir
        own = parallel.from_main(int(earlier_run(self.output_dir) is not None))
        return self.output_dir if own else self.cfg.RESUME

    def made_from(self):
        """Hook: {name: text} of what decides the numbers beside the configuration and the data: pre-trained weights."""
        frozen = frozen_hash(self) if self.cfg.SEED >= 0 else ""  # without a seed they may start at random
        return {"frozen weights": frozen} if frozen else {}

    def weights_record(self):
        """Hook: what ``results.json`` says of the pre-trained weights."""
        return {"frozen_sha256": frozen_hash(self)}

    def evaluate(self, directory="", epoch=None):
        """Evaluate the model that a run in ``directory`` has trained (after ``epoch`` epochs), or one that learns nothing.

        UserError: no directory for a method that learns; weights that were trained with another pre-trained model.
        """
        names = self.get_model_names()
        if names and not directory and not self.cfg.MODEL.INIT_WEIGHTS:
            raise UserError(
                f"{self.cfg.TRAINER.NAME} learns: --eval-only needs --model-dir, the folder of a finished training run "
                "(an untrained model has no accuracy worth recording)"
            )
        if directory and not names:
            print(f"Note: {self.cfg.TRAINER.NAME} learns nothing: --model-dir isn't used")
        self.check_validation_images()
        self.load_model(directory, epoch)
        if directory and names:
            self._loaded = trained_with(self, directory, epoch)
        self.claim(EVALUATION)
        self.test()
        self.ensure_results()

    def after_train(self):
        """Evaluate the model of the last epoch, or the best one by validation."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            else:
                print("Deploy the last-epoch model")
            self.test()
        elapsed = datetime.timedelta(seconds=max(round(time.time() - self.time_start), 0))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    def after_epoch(self):
        """Validate (``best_val``) and save, at the moments that the configuration names."""
        last_epoch = self.epoch + 1 == self.max_epoch
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name="model-best.pth.tar")
        if last_epoch or (freq > 0 and (self.epoch + 1) % freq == 0):
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split=None):
        """Evaluate on ``split`` (val or test; None: TEST.SPLIT) and return the main result.

        The evaluation that ends a run, or is all of it, writes ``results.json``.
        """
        start = time.monotonic()
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        data_loader = self.val_loader if split == "val" else self.test_loader
        if data_loader is None:
            raise UserError(f"evaluation on {split}: {self.cfg.DATASET.NAME} has no such images here")
        if self.cfg.TEST.CALIBRATE and split != "val":
            self.evaluator.temperature = validation_temperature(self)
            self.begin_evaluation()
        print(f"Evaluate on the *{split}* set")
        for batch in tqdm(data_loader, disable=not (sys.stderr.isatty() and parallel.is_main()), leave=False):
            input, label = self.parse_batch_test(batch)
            scores = self.model_inference(input)
            if isinstance(scores, torch.Tensor):
                check_finite(scores)  # here, too: evaluators may be others
            self.evaluator.process(scores, label)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        if not self._in_epochs:
            self._write_results(results, split, time.monotonic() - start)
        return next(iter(results.values()))

    def begin_evaluation(self):
        """Hook: forget what was counted of images that were evaluated before."""

    def _write_results(self, results, split, test_seconds):
        seconds = {
            "train": self.train_seconds(),
            "test": test_seconds,
            "total": self._resumed_seconds + time.monotonic() - self._time_created,
        }
        self.claim(TRAINING if self._trained else EVALUATION)
        if parallel.is_main() and self._run_folder.finished:
            same_as_recorded(results, self._run_folder)
        elif parallel.is_main():
            write_results(self, results, split, seconds, eval_only=not self._trained)
        if parallel.is_main() and self.cfg.TEST.SAVE_PREDICTIONS:
            save_predictions(self, split)
        self._results_written = True

    def ensure_results(self):
        """Write ``results.json`` after an evaluation by a ``test`` that doesn't: one that a method overrides."""
        results = getattr(self.evaluator, "last_results", None)  # evaluators of others don't keep them
        if not self._results_written and results is not None:
            self._write_results(results, self.cfg.TEST.SPLIT, None)

    def model_inference(self, input):
        """Return the scores [B, C] of an input batch."""
        return self.model(input)

    def parse_batch_test(self, batch):
        """Return (images [B, 3, H, W], labels [B]) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)

    # ---- the batch loop, common to TrainerX and TrainerXU ----

    def _train_on(self, batches, num_batches):
        """Run ``forward_backward(*batch)`` on every item of ``batches`` (tuples), with log and TensorBoard."""
        self.num_batches = num_batches
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        end = time.monotonic()
        for self.batch_idx, batch in enumerate(batches):
            data_time.update(time.monotonic() - end)
            loss_summary = self.forward_backward(*batch)
            if loss_summary and "loss" in loss_summary:
                self.detect_anomaly(loss_summary["loss"])  # for methods that don't call model_backward
            batch_time.update(time.monotonic() - end)
            losses.update(loss_summary)
            freq = self.cfg.TRAIN.PRINT_FREQ
            if (self.batch_idx + 1) % freq == 0 or num_batches < freq:
                self._print_progress(losses, batch_time, data_time)
            step = self.epoch * num_batches + self.batch_idx
            for name, meter in losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", self.get_current_lr(), step)
            end = time.monotonic()

    def _print_progress(self, losses, batch_time, data_time):
        left = self.num_batches - self.batch_idx - 1 + (self.max_epoch - self.epoch - 1) * self.num_batches
        print(
            f"epoch [{self.epoch + 1}/{self.max_epoch}] "
            f"batch [{self.batch_idx + 1}/{self.num_batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
            f"data {data_time.val:.3f} ({data_time.avg:.3f}) "
            f"{losses} "
            f"lr {self.get_current_lr():.4e} "
            f"eta {datetime.timedelta(seconds=int(batch_time.avg * left))}"
        )


class TrainerXU(SimpleTrainer):
    """A trainer on labelled and unlabelled data; ``TRAIN.COUNT_ITER`` says whose batches make an epoch."""

    def run_epoch(self):
        """Train for one epoch on pairs of a labelled and an unlabelled batch; the shorter loader starts again."""
        self.set_model_mode("train")
        len_x, len_u = len(self.train_loader_x), len(self.train_loader_u)
        lengths = {"train_x": len_x, "train_u": len_u, "smaller_one": min(len_x, len_u)}
        count_iter = self.cfg.TRAIN.COUNT_ITER
        n = lengths[count_iter]
        pairs = zip(range(n), _repeat(self.train_loader_x), _repeat(self.train_loader_u))
        self._train_on(((x, u) for _, x, u in pairs), n)

    def parse_batch_train(self, batch_x, batch_u):
        """Return (labelled images, their labels, unlabelled images) on the device."""
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)


def _repeat(loader):
    while True:
        yield from loader


class TrainerX(SimpleTrainer):
    """A trainer on labelled data."""

    def run_epoch(self):
        """Train for one epoch."""
        self.set_model_mode("train")
        self._train_on(((batch,) for batch in self.train_loader_x), len(self.train_loader_x))

    def parse_batch_train(self, batch):
        """Return (images [B, 3, H, W], labels [B], domains [B]) on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)
