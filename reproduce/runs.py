"""A run as data: what it trains or tests, where its files lie, whether it is finished, and its command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from basics import UserError, home
from basics.identity import deciding, differences
from basics.scores import main_score
from reproduce import facts, processes, recipes

ALL = -1  # shots: every training image
SETTINGS = ("base2new_train", "base2new_test", "fewshot", "zeroshot", "xd_train", "xd_test")


def number_for_recipes(shots: int) -> int:
    """What rules of recipes compare with: all images are more than any number that they name."""
    return 10**9 if shots == ALL else shots


@dataclass(frozen=True)
class Run:
    """One call of train.py.

    kind: one of SETTINGS. shots: training images of each class, or ALL. dataset, source: stems of configs/datasets/*.yaml;
    source is the training set of xd_test. subsample: the classes that zeroshot evaluates. opts: flat KEY, VALUE, ... that go to
    train.py. variant: names a recipe with other switches; its folder is `<cfg>-<variant>`.
    """

    kind: str
    dataset: str
    trainer: str
    cfg: str
    seed: int = 1
    shots: int = 16
    subsample: str = "all"
    source: str = ""
    opts: tuple = ()
    variant: str = ""

    @property
    def classes(self) -> str:
        return {"base2new_train": "base", "base2new_test": "new", "zeroshot": self.subsample}.get(self.kind, "all")

    @property
    def row(self) -> str:
        """The method and how it differs from its recipe."""
        return f"{self.trainer} ({self.variant})" if self.variant else self.trainer

    @property
    def shots_name(self) -> str:
        return "all" if self.shots == ALL else str(self.shots)

    @property
    def label(self) -> str:
        classes = f" {self.classes}" if self.classes != "all" else ""
        origin = f" (trained on {self.source})" if self.source else ""
        seed = "" if self.kind == "zeroshot" else f" seed {self.seed}"
        shots = f" {self.shots_name} shots" if self.kind == "fewshot" else ""
        return f"{self.row} {self.dataset}{classes}{origin}{shots}{seed}"

    @property
    def training(self) -> Run | None:
        """The run whose model this one evaluates; None if it evaluates none."""
        if self.trainer in recipes.ZEROSHOT_TRAINERS:
            return None
        if self.kind == "base2new_test":
            return replace(self, kind="base2new_train")
        if self.kind == "xd_test":
            return replace(self, kind="xd_train", dataset=self.source, source="")
        return None

    @property
    def evaluates_only(self) -> bool:
        return self.trainer in recipes.ZEROSHOT_TRAINERS or self.kind in ("base2new_test", "zeroshot", "xd_test")

    def directory(self, out: str | Path) -> Path:
        """Folder of this run below `out`."""
        tail = Path(self.trainer) / (f"{self.cfg}-{self.variant}" if self.variant else self.cfg)
        shots = Path(self.dataset) / f"shots_{self.shots_name}" / tail / f"seed{self.seed}"
        return (
            Path(out)
            / {
                "base2new_train": Path("base2new/train_base") / shots,
                "base2new_test": Path("base2new/test_new") / shots,
                "fewshot": Path("fewshot") / shots,
                "zeroshot": Path("zeroshot") / self.dataset / tail / self.subsample,
                "xd_train": Path("crossdataset/train") / shots,
                "xd_test": Path("crossdataset/test") / self.source / shots,
            }[self.kind]
        )

    def result(self, out: str | Path) -> dict[str, Any] | None:
        """results.json of this run if it is finished, else None.

        A test that is older than the training run whose model it tests, or of another training, has to be made again.
        """
        result = read_result(self.directory(out))
        trained = read_result(self.training.directory(out)) if result and self.training else None
        return None if trained and is_stale(result, trained) else result

    def settings(self) -> tuple[str, ...]:
        """Flat KEY, VALUE, ... in force, later ones win."""
        settings = recipes.recipe_opts(self.trainer, self.dataset, self.kind, number_for_recipes(self.shots))
        if self.kind in ("base2new_train", "base2new_test", "fewshot", "xd_train"):
            settings += ("DATASET.NUM_SHOTS", str(self.shots))
        if self.classes != "all":
            settings += ("DATASET.SUBSAMPLE_CLASSES", self.classes)
        return settings + tuple(self.opts)

    def words(self, *options):
        """Words of train.py's command line that say what this run is; `options` say where its files are and what to do."""
        files = facts.dataset_file(self.dataset), recipes.trainer_file(self.trainer, self.cfg)
        what = ["--seed", str(self.seed), "--trainer", self.trainer]
        return [*what, "--dataset-config-file", str(files[0]), "--config-file", str(files[1]), *options, *self.settings()]

    def command(self, data, out, cache_features=False, fresh=False):
        """Argument list that starts this run. A test of a training run needs that one finished.

        cache_features: training keeps its image features for other methods with the same seed and data, or takes theirs.
        fresh: the run that lies in its folder makes room; so does a test of a training run that isn't there any more.
        """
        directory = self.directory(out)
        options = ["--root", str(data), "--output-dir", str(directory)]
        if self.training:
            trained = self.training.directory(out)
            options += ["--model-dir", str(trained), "--load-epoch", str(finished_epochs(self, trained))]
            fresh = fresh or (self.result(out) is None and read_result(directory) is not None)
        if self.evaluates_only:
            options.append("--eval-only")
        else:
            options += ["--cache-features"] * cache_features
            options += ["--resume", str(directory)] * (has_checkpoint(directory) and not fresh)
        options += ["--fresh"] * fresh
        return [*processes.python("train"), *self.words(*options)]


def is_stale(tested, trained):
    """Whether a test's results.json is older than that of the training run, or of a training with other settings."""
    if trained.get("finished_at", "") > tested.get("finished_at", ""):
        return True
    model = tested.get("model")
    known = model.get("trained_with") if isinstance(model, dict) else None
    return isinstance(known, dict) and bool(differences(known, deciding(trained.get("config") or {})))


def has_checkpoint(directory: Path) -> bool:
    """Whether train.py left something in this folder from which training can resume."""
    return any(any(directory.glob(pattern)) for pattern in ("resume/epoch-*.pt", "*/model.pth.tar-*"))


def finished_epochs(run, trained):
    """Number of epochs of the finished training run in folder `trained`; UserError if it isn't finished."""
    result = read_result(trained)
    if result is None:
        script = {"base2new_test": "base2new_train", "xd_test": "xd_train"}[run.kind]
        raise UserError(
            f"{run.label}: its training run isn't finished ({trained}); first run\n"
            f"  TRAINER={run.trainer} CFG={run.cfg} SHOTS={run.shots_name} "
            f"{home.script(script)} {run.training.dataset} {run.seed}"
        )
    return result["epochs"]


def read_result(directory: str | Path) -> dict[str, Any] | None:
    """The parsed results.json of a finished run; None for any other folder, and where the file is damaged."""
    try:
        result = json.loads((Path(directory) / "results.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) and result.get("status") == "finished" and is_whole(result) else None


def is_whole(result):
    """Whether what is read of a results.json has the types that it is read as."""
    metrics = result.get("metrics")
    if not isinstance(metrics, dict) or not main_score(metrics):
        return False
    numbers = [metrics[name] for name in ("accuracy", "mAP", "error_rate", "macro_f1", "ece") if name in metrics]
    per_cent = all(isinstance(n, (int, float)) and not isinstance(n, bool) and 0 <= n <= 100 for n in numbers)
    kinds = {"epochs": int, "finished_at": str, "config": dict}
    return per_cent and all(isinstance(result[key], kind) for key, kind in kinds.items() if key in result)
