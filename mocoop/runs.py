"""Training and evaluation in the settings of the papers, in the caller's process: what the scripts do, as functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basics import UserError, nearest
from basics.scores import main_score

from .surroundings import undisturbed

if TYPE_CHECKING:
    from reproduce.runs import Run as Planned

SETTINGS = {"base2new": "base2new_train", "fewshot": "fewshot", "crossdataset": "xd_train"}  # setting: kind of its training run


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: its output folder.
        results: its results.json.
    """

    folder: Path
    results: Mapping[str, Any]
    planned: Planned = field(repr=False)
    data: Path = field(repr=False)
    output: Path = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Of the test images, in per cent. UserError where they have several labels: ``mAP`` then."""
        return self._metric("accuracy")

    @property
    def mAP(self) -> float:  # noqa: N802  (its name everywhere)
        """Mean average precision of the test images in per cent. UserError where they have one label."""
        return self._metric("mAP")

    def _metric(self, name):
        if name not in self.results["metrics"]:
            there = main_score(self.results["metrics"])
            raise UserError(f"{self.folder}: the run has no {name}" + (f"; it has {there[0]}" if there else ""))
        return self.results["metrics"][name]


def train(
    method: str,
    dataset: str,
    *,
    setting: str = "base2new",
    seed: int = 1,
    shots: int = 16,
    config: str = "",
    settings: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    output: str | Path | None = None,
    fresh: bool = False,
) -> Run:
    """Train a method on a data set and test it, as ``scripts/base2new_train.sh``, ``fewshot.sh`` and ``xd_train.sh`` do.

    A finished run isn't repeated, an interrupted one is resumed, and a folder with a run of other settings is refused.

    Args:
        method: CoOp, MoCoOp …; one without training, such as ZeroshotCLIP, is tested.
        dataset: name of a file in configs/datasets, without .yaml.
        setting: "base2new" (train on the base classes and test them), "fewshot" (all classes, ResNet-50) or "crossdataset"
            (all classes, for tests on other data sets).
        seed, shots: of the sample, shots being images a class.
        config: name of the method's file in configs/trainers/<method>, without .yaml; "" for the published recipe's.
        settings: {KEY: value} that win over the files, such as {"OPTIM.MAX_EPOCH": 10}.
        data, output: folders of data sets and results; None for ``data`` and ``output``, or what DATA and OUT name.
        fresh: start anew; the files of the run that is there are moved aside.

    Raises:
        UserError: what the command line refuses.
    """
    if setting not in SETTINGS:
        raise UserError(f"setting {setting!r}{nearest(setting, SETTINGS)}: it is one of {', '.join(SETTINGS)}")
    if isinstance(shots, bool) or not isinstance(shots, int) or shots < 1:
        raise UserError(f"shots {shots!r}: expected a positive whole number")
    with undisturbed():
        from reproduce import recipes
        from reproduce.runs import Run as Planned

        recipes.check_method(method, "method ")
        config = config or recipes.default_cfg(method, dataset, setting, shots)
        words = tuple(str(word) for pair in (settings or {}).items() for word in pair)
        return _made(Planned(SETTINGS[setting], dataset, method, config, seed, shots, opts=words), data, output, fresh)


def evaluate(run: Run, dataset: str = "", *, fresh: bool = False) -> Run:
    """Test a trained run where it wasn't trained, as ``scripts/base2new_test.sh`` and ``xd_test.sh`` do.

    Args:
        run: what ``train`` returned: of "base2new", tested on the new classes; of "crossdataset", on another data set.
        dataset: that data set's name.
        fresh: as of ``train``.

    Raises:
        UserError: what the command line refuses.
    """
    kind = run.planned.kind
    if kind == "base2new_train" and not dataset:
        planned = replace(run.planned, kind="base2new_test")
    elif kind == "xd_train" and dataset:
        planned = replace(run.planned, kind="xd_test", dataset=dataset, source=run.planned.dataset)
    else:
        what = "a base2new run has its new classes (no data set), a crossdataset run another data set (its name)"
        raise UserError(f"{run.planned.label} can't be evaluated {f'on {dataset}' if dataset else 'without a data set'}: {what}")
    with undisturbed():
        return _made(planned, run.data, run.output, fresh)


def _made(planned, data, output, fresh):
    from inference import read_run
    from reproduce import single

    data = single.data_folder() if data is None else Path(data).absolute()
    output = single.output_folder() if output is None else Path(output).absolute()
    single.execute(planned, data, output, fresh, start=_in_this_process)
    folder = planned.directory(output)
    return Run(folder, read_run(folder), planned, data, output)


def _in_this_process(command):
    """``train.py``'s command line, from the words that start it as a process."""
    import train
    from reproduce.processes import python

    words = command[len(python("train")) :]
    if train.foreign_repository(words):
        raise UserError(
            "a trainer of a repository in foreign/ replaces names of the process that it runs in: use the command line, "
            "and mocoop.load for its results"
        )
    train.run(train.build_parser().parse_args(words))
    return 0
