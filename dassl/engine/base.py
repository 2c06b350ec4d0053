"""The part of a trainer that knows only its models: registering, modes, updates, checkpoints, the loop over epochs."""

import os.path as osp
import time
from collections import OrderedDict

import torch
from torch.utils.data import DataLoader

from ..data import set_loader_epoch
from ..utils import UserError, load_checkpoint, parallel, save_checkpoint, tolist_if_not
from .attributes import fingerprints
from .checkpoint import (
    RESUME_DIR,
    ResumePoints,
    check_classes,
    check_layout,
    check_model_dir,
    check_settings,
    check_trainer,
    frozen_samples,
    load_learned_state,
    loaded_record,
    model_entry,
    only_user_errors,
    resume,
    resume_points,
    run_entry,
    saved_epochs,
)
from .loggers import Loggers


class TrainerBase:
    """Base class for iterative trainers."""

    def __init__(self):
        self._models = OrderedDict()
        self._optims = OrderedDict()
        self._scheds = OrderedDict()
        self._writer = None
        self._train_seconds = 0.0  # before _train_start
        self._resumed_seconds = 0.0  # of these, those of the runs that this one continues
        self._train_start = None
        self._in_epochs = False
        self._attributes_at_start = None  # nothing has been trained
        self._frozen_at_start = {}
        self._loaded = None  # what load_model has taken from where
        self._run_folder = None  # RunFolder, from the moment when the output folder is this run's

    # ---- models ----

    def register_model(self, name="model", model=None, optim=None, sched=None):
        """Register a model, with its optimiser and scheduler, under ``name``."""
        if "_models" not in self.__dict__:
            raise AttributeError("register_model() before super().__init__()")
        if name in self._models:
            raise ValueError(f'a model named "{name}" is registered already')
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names=None):
        """Return ``names`` (a name or a list) after a check, or the names of all registered models."""
        known = list(self._models)
        if names is None:
            return known
        names = tolist_if_not(names)
        for name in names:
            if name not in known:
                raise KeyError(f'no model named "{name}" is registered; there are {known}')
        return names

    def set_model_mode(self, mode="train", names=None):
        """Put models into the mode train, or eval (also called test)."""
        if mode not in ("train", "test", "eval"):
            raise KeyError(f'unknown mode "{mode}": train, test or eval')
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    # ---- updates ----

    def model_zero_grad(self, names=None):
        """Clear the gradients."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss):
        """Check the loss and compute its gradients."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names=None):
        """Let the optimisers take a step."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss, names=None):
        """Clear the gradients, compute them, take a step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(self, loss_a, loss_b, lambda_=1, names=None):
        """Take a step down ``loss_a``; where its gradient opposes ``loss_b``'s, ``lambda_`` times its part along that
        is removed, parameter by parameter.

        Trainer files of ProGrad and of methods built on it expect this of their engine.
        """
        names = self.get_model_names(names)
        for loss in (loss_a, loss_b):
            self.detect_anomaly(loss)
        parameters = [p for name in names for p in self._models[name].parameters() if p.requires_grad]
        guides = torch.autograd.grad(loss_b, parameters, retain_graph=True, allow_unused=True)
        self.model_zero_grad(names)
        loss_a.backward()
        for p, guide in zip(parameters, guides):
            if p.grad is None or guide is None:
                continue
            direction = guide / torch.linalg.norm(guide)
            along = torch.dot(p.grad.flatten(), direction.flatten())
            if along < 0:
                p.grad = p.grad - lambda_ * along * direction
        self.model_update(names)

    def update_lr(self, names=None):
        """Let the schedulers take a step: to be called after the last batch of an epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names=None):
        """Return the learning rate of the first parameter group of the first of ``names``."""
        optim = self._optims[self.get_model_names(names)[0]]
        return optim.param_groups[0]["lr"]

    def detect_anomaly(self, loss):
        """Raise UserError when the loss (tensor or number) is not finite, before anything is overwritten."""
        if torch.isfinite(torch.as_tensor(loss)).all():
            return
        self.stop_non_finite("the loss")

    def stop_non_finite(self, what):
        """Raise the UserError for a value that is not finite: where, at which learning rate, what is left."""
        where = f"epoch {getattr(self, 'epoch', 0) + 1}, batch {getattr(self, 'batch_idx', 0) + 1}"
        rates = sorted({f"{g['lr']:.4e}" for o in self._optims.values() if o is not None for g in o.param_groups})
        raise UserError(
            f"{what} is not finite (infinite or NaN) in {where}, "
            f"at the learning rate {', '.join(rates) or 'unknown'}; training stops. {self._last_good_checkpoint()} "
            "Try a lower OPTIM.LR, a longer OPTIM.WARMUP_EPOCH, or fp32 in place of fp16, in another "
            "--output-dir or with --fresh: a resumed run keeps its settings"
        )

    def _last_good_checkpoint(self):
        directory = getattr(self, "output_dir", None) or ""
        points = osp.join(directory, RESUME_DIR)
        epochs = {epoch: points for epoch in resume_points(points)} if directory else {}
        epochs.update(dict.fromkeys(saved_epochs(directory, self.get_model_names()) if directory else (), directory))
        if epochs:
            return f"The last good checkpoint is that of epoch {max(epochs)} in {epochs[max(epochs)]}."
        return "There is no checkpoint yet."

    # ---- checkpoints ----

    def checkpoint_extras(self):
        """Hook: return plain data (tensors, numbers, strings, containers) to be saved with every checkpoint."""
        return {}

    def load_checkpoint_extras(self, extras):
        """Hook: take over what ``checkpoint_extras`` returned; called before the weights are loaded."""

    def results_extras(self):
        """Hook: say in the log what a method knows of the evaluation that ends a run, and return it for results.json.

        Plain data, under names that results.json doesn't have.
        """
        return {}

    def adapt_state_dict(self, name, state_dict):
        """Hook for ``load_model``: return the entries of a checkpoint of model ``name`` that are to be loaded.

        A method that reads checkpoints of other programs renames or drops entries here.
        """
        return state_dict

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Save every model as ``directory/<name>/model.pth.tar-<epoch + 1>``, or under ``model_name``."""
        with parallel.main_first():  # the others may read next what it writes
            run = run_entry(self, epoch + 1)
            for name in self.get_model_names() if parallel.is_main() else ():
                save_checkpoint(
                    {**run, **model_entry(self, name, val_result)},
                    osp.join(directory, name),
                    is_best=is_best,
                    model_name=model_name,
                )

    def load_model(self, directory, epoch=None):
        """Load the weights that a run in ``directory`` saved after ``epoch`` epochs (None: the best, else the last).

        UserError when there are none, or when they are of another method or of other shapes.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        names = self.get_model_names()
        check_model_dir(directory, names)
        epochs = sorted(saved_epochs(directory, names))
        best = "model-best.pth.tar"
        if epoch is None and epochs and not all(osp.isfile(osp.join(directory, name, best)) for name in names):
            epoch = epochs[-1]
        model_file = best if epoch is None else f"model.pth.tar-{epoch}"
        loaded = []
        for name in names:
            path = osp.join(directory, name, model_file)
            if not osp.isfile(path):
                hint = f"; there are epochs {', '.join(map(str, epochs))} (--load-epoch)" if epochs else ""
                raise UserError(f"no model at {path}{hint}")
            checkpoint = load_checkpoint(path)
            check_layout(checkpoint, path)
            check_trainer(checkpoint, self.cfg, path)
            check_settings(checkpoint, self, path)
            check_classes(checkpoint, self, path)
            loaded.append((name, path, checkpoint))
        self._loaded = loaded_record(directory, loaded)
        for number, (name, path, checkpoint) in enumerate(loaded):
            with only_user_errors(path):
                if number == 0 and checkpoint.get("extras"):
                    self.load_checkpoint_extras(checkpoint["extras"])
                print(f'Loading weights to {name} from "{path}" (epoch = {checkpoint.get("epoch")})')
                load_learned_state(self._models[name], self.adapt_state_dict(name, checkpoint["state_dict"]), path)

    def resume_model_if_exist(self, directory):
        """Restore the newest usable state in ``directory``; return the epochs done, 0 when there is none."""
        return resume(self, directory)

    # ---- loggers ----

    def init_writer(self, log_dir):
        """Open the loggers that TRAIN.LOGGERS names, TensorBoard's files in ``log_dir``, and ``metrics.csv``."""
        if self._writer is None and parallel.is_main():
            self._writer = Loggers(self, log_dir)

    def close_writer(self):
        """Close the loggers."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag, scalar_value, global_step=None):
        """Write a number for the loggers, if they are open."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # ---- the loop ----

    def train_seconds(self):
        """Return the seconds spent in training so far, with those of the runs that this one continues."""
        current = time.monotonic() - self._train_start if self._train_start is not None else 0.0
        return self._train_seconds + current

    def add_train_seconds(self, seconds):
        """Count the seconds of a run that this one continues."""
        self._train_seconds += seconds
        self._resumed_seconds += seconds

    def train(self, start_epoch, max_epoch):
        """Train from ``start_epoch`` (counted from 0) until ``max_epoch``."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self._attributes_at_start = fingerprints(self)
        self._frozen_at_start = {name: frozen_samples(model) for name, model in self._models.items()}
        self.before_train()  # may set start_epoch, when it resumes
        self._train_start = time.monotonic()  # the wall clock may be set meanwhile
        points = ResumePoints(self.output_dir) if getattr(self, "output_dir", "") and parallel.is_main() else None
        self.epoch = max(self.start_epoch - 1, 0)
        self._in_epochs = True
        for self.epoch in range(self.start_epoch, self.max_epoch):  # noqa: B020
            self._set_data_epoch()
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
            if self._writer is not None:
                self._writer.flush()
            if points and self.epoch + 1 < self.max_epoch:
                points.save(self, self.epoch + 1)
        self._in_epochs = False
        self._train_seconds, self._train_start = self.train_seconds(), None
        self.after_train()
        if points:
            points.remove()

    def _set_data_epoch(self):
        for value in list(self.__dict__.values()):
            if isinstance(value, DataLoader):
                set_loader_epoch(value, self.epoch)

    def before_train(self):
        """Hook."""

    def after_train(self):
        """Hook."""

    def before_epoch(self):
        """Hook."""

    def after_epoch(self):
        """Hook."""

    def run_epoch(self):
        """Train for one epoch."""
        raise NotImplementedError

    def test(self):
        """Evaluate."""
        raise NotImplementedError

    def parse_batch_train(self, batch):
        """Return what ``forward_backward`` needs of a batch, on the device."""
        raise NotImplementedError

    def parse_batch_test(self, batch):
        """Return (input, label) of a batch, on the device."""
        raise NotImplementedError

    def forward_backward(self, batch):
        """Compute the loss of a batch, update the models, return {name: number} for the log."""
        raise NotImplementedError

    def model_inference(self, input):
        """Return the scores [B, C] of an input batch."""
        raise NotImplementedError
