"""Where the numbers of training go: metrics.csv always; TensorBoard, Weights & Biases and MLflow as TRAIN.LOGGERS says."""

import csv
import hashlib
import importlib
import json
import os
import os.path as osp
import time

from basics import UserError, write_text
from basics.identity import flatten

METRICS = "metrics.csv"
HEADER = ["epoch", "step", "name", "value"]
AFTER = "end"  # in the place of the epoch: numbers of the evaluation after training


class CSVLog:
    """``metrics.csv``: a line for each number, with its epoch (from 1; ``end`` after training) and TensorBoard's step.

    Args:
        file: the file; lines of an earlier, killed run stay as far as the epochs that this one goes on from.
        epochs: epochs done.
    """

    def __init__(self, file, epochs):
        write_text("".join(self._kept(file, epochs)), file)
        self._stream = open(file, "a", buffering=1, encoding="utf-8", newline="")  # noqa: SIM115
        self._writer = csv.writer(self._stream, lineterminator="\n")

    @staticmethod
    def _kept(file, epochs):
        yield ",".join(HEADER) + "\n"
        if epochs and osp.isfile(file):
            with open(file, encoding="utf-8", errors="replace", newline="") as lines:
                for line in lines:
                    epoch = line.partition(",")[0]
                    if epoch.isdigit() and int(epoch) <= epochs and line.endswith("\n"):
                        yield line

    def add(self, epoch, step, tag, value):
        self._writer.writerow([epoch, step, tag, repr(value)])

    def flush(self):
        """Nothing: each line is written at once."""

    def close(self):
        self._stream.close()


class TensorBoardLog:
    """TensorBoard's event files; what an earlier, killed run wrote beyond the epoch of the resume is superseded."""

    def __init__(self, folder, purge_step):
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        print(f"Initialize tensorboard (log_dir={folder})")
        self.writer = SummaryWriter(log_dir=folder, purge_step=purge_step)

    def add(self, epoch, step, tag, value):
        self.writer.add_scalar(tag, value, step)

    def flush(self):
        self.writer.flush()

    def close(self):
        self.writer.close()


class Collected:
    """Base of loggers that take all numbers of a moment at once: subclasses say how in ``send``."""

    def __init__(self):
        self._moment, self._numbers = None, {}

    def send(self, epoch, step, numbers):
        """Pass on {name: number} of a moment."""
        raise NotImplementedError

    def add(self, epoch, step, tag, value):
        if self._moment not in (None, (epoch, step)):
            self.flush()
        self._moment = epoch, step
        self._numbers[tag] = value

    def flush(self):
        if self._numbers:
            self.send(*self._moment, self._numbers)
        self._moment, self._numbers = None, {}


class WandbLog(Collected):
    """A run of Weights & Biases, in the run folder; its environment variables (WANDB_MODE, WANDB_PROJECT …) say the rest."""

    def __init__(self, trainer):
        super().__init__()
        wandb = _library("wandb")
        settings = wandb.Settings(console="off", disable_git=True, disable_code=True)
        project = os.environ.get("WANDB_PROJECT") or "mocoop"
        try:
            self._run = wandb.init(
                project=project, dir=trainer.output_dir, id=run_name(trainer), resume="allow", settings=settings,
                name=osp.relpath(trainer.output_dir), config=flatten(trainer.cfg),
            )  # fmt: skip
        except wandb.errors.Error as error:
            raise UserError(
                f"TRAIN.LOGGERS wandb: {error} (WANDB_MODE=offline keeps the numbers in the run folder, for `wandb sync`)"
            ) from None

    def send(self, epoch, step, numbers):
        self._run.log({**numbers, "step": step, **({"epoch": epoch} if epoch != AFTER else {})})

    def close(self):
        self.flush()
        self._run.finish()


class MLflowLog(Collected):
    """A run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where, by default ``mlflow`` in the run folder."""

    def __init__(self, trainer):
        super().__init__()
        mlflow = _library("mlflow", "mlflow-skinny")
        from mlflow.entities import Metric, Param  # of an optional library

        self._metric = Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            uri = "file:" + osp.abspath(osp.join(trainer.output_dir, "mlflow"))
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # it asks for a database otherwise
        try:
            self._client = mlflow.MlflowClient(uri)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "mocoop"
            experiment = self._client.get_experiment_by_name(name)
            place = experiment.experiment_id if experiment else self._client.create_experiment(name)
            own = run_name(trainer)
            found = self._client.search_runs([place], f"tags.`mocoop.run` = '{own}'")
            if found:
                self._id = found[0].info.run_id
                self._client.update_run(self._id, "RUNNING")
            else:
                tags = {"mocoop.run": own}
                self._id = self._client.create_run(place, tags=tags, run_name=osp.relpath(trainer.output_dir)).info.run_id
                params = [Param(key, str(value)[:500]) for key, value in flatten(trainer.cfg).items()]
                for start in range(0, len(params), 100):  # as many as it takes at once
                    self._client.log_batch(self._id, params=params[start : start + 100])
        except mlflow.exceptions.MlflowException as error:
            raise UserError(f"TRAIN.LOGGERS mlflow: {error}") from None

    def send(self, epoch, step, numbers):
        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[self._metric(name, value, now, step) for name, value in numbers.items()])

    def close(self):
        self.flush()
        self._client.set_terminated(self._id)


def _library(name, package=None):
    """An imported optional library; UserError where it isn't installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"TRAIN.LOGGERS {name}: {error}; pip install {package or name}") from None


def run_name(trainer):
    """A name of the run for services that go on with one: the same at each start of a run in its folder, of no other."""
    with open(osp.join(trainer.output_dir, "run.json"), encoding="utf-8") as file:
        first = json.load(file)["starts"][0]["at"]
    return hashlib.sha256(f"{osp.abspath(trainer.output_dir)} {first}".encode()).hexdigest()[:16]


class Loggers:
    """All loggers of a run. Attributes that it lacks are TensorBoard's writer's, which trainers for Dassl may use.

    Args:
        trainer: whose numbers they are.
        folder: TensorBoard's.
    """

    def __init__(self, trainer, folder):
        cfg = getattr(trainer, "cfg", None)
        names = cfg.TRAIN.LOGGERS.split() if cfg is not None else ["tensorboard"]
        start, loader = getattr(trainer, "start_epoch", 0), getattr(trainer, "train_loader_x", None)
        purge = start * len(loader) if start and loader is not None else None
        self._trainer, self._tensorboard, self._all = trainer, None, []
        if getattr(trainer, "output_dir", ""):
            self._all.append(CSVLog(osp.join(trainer.output_dir, METRICS), start))
        if "tensorboard" in names:
            self._tensorboard = TensorBoardLog(folder, purge)
            self._all.append(self._tensorboard)
        self._all += [WandbLog(trainer)] if "wandb" in names else []
        self._all += [MLflowLog(trainer)] if "mlflow" in names else []

    def __getattr__(self, name):
        if name.startswith("__") or self._tensorboard is None:
            raise AttributeError(name)
        return getattr(self._tensorboard.writer, name)

    def add_scalar(self, tag, value, step=None):
        epoch = self._trainer.epoch + 1 if self._trainer._in_epochs else AFTER
        for logger in self._all:
            logger.add(epoch, step, tag, float(value))

    def flush(self):
        """Pass everything on. It is called before a checkpoint is written, so that a run that goes on from it has all before."""
        for logger in self._all:
            logger.flush()

    def close(self):
        for logger in self._all:
            logger.close()
