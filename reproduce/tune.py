"""`python -m reproduce tune METHOD DATASET`: settings chosen on validation images, base classes playing the new ones.

A part of the base classes is held out (DATASET.HELD_OUT). A trial trains on the others, and is tested on the validation images
of both: H of the two is the aim. Test images and the new classes are never read, nor are the new classes' names.
"""

import os
import statistics
import sys
from dataclasses import dataclass

from basics import UserError
from basics.hashes import digest
from reproduce import demo, facts, recipes, tune_report, tune_space
from reproduce.experiments import variant_name
from reproduce.results import harmonic_mean
from reproduce.runs import Run
from reproduce.single import data_folder, output_folder

EPILOG = """
Environment variables: DATA (<project>/data), OUT (<project>/output), CFG (the published recipe's file), SHOTS (16). Needs the
Python package optuna (`pip install .[tune]`).
"""


def add_arguments(commands):
    """Add `tune` to the sub-commands of the command line."""
    parser = commands.add_parser(
        "tune", help="choose settings on validation images, base classes playing the new ones", description=__doc__, epilog=EPILOG
    )
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("dataset", metavar="DATASET", help="file name in configs/datasets without .yaml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="a search for each (default: 1)")
    parser.add_argument("--trials", type=int, default=20, help="settings tried for each seed (default: %(default)s)")
    parser.add_argument(
        "--folds", type=int, default=2, help="draws of the held-out classes for each trial (default: %(default)s)"
    )
    parser.add_argument("--held-out", type=float, default=0.33, help="share of the base classes (default: %(default)s)")
    parser.add_argument(
        "--key", action="append", default=[], metavar="KEY=A,B,C|KEY=LOW..HIGH",
        help="search this key; may be repeated (default: configs/tune/METHOD.yaml, else the method's own numbers and the rate)",
    )  # fmt: skip
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe", help="Optuna's (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="trials at a time; above 1 on Ray (default: %(default)s)")
    parser.add_argument("--address", help="of a Ray cluster, as for the tables")
    parser.add_argument("--gpus-per-run", type=float, metavar="N", help="on Ray, as for the tables")
    parser.add_argument("--out", metavar="FILE", help="JSON of all trials (default: below OUT/tune)")
    parser.add_settings("a setting of all trials")


@dataclass(frozen=True)
class Search:
    """What is searched for one method and data set. opts: flat KEY, VALUE of all trials."""

    trainer: str
    dataset: str
    cfg: str
    shots: int
    dimensions: tuple
    folds: int
    held_out: float
    sampler: str
    opts: tuple = ()

    @property
    def name(self):
        """Hash of what makes it this search; the number of trials isn't part of it, so that a search can be made longer."""
        space = {d.key: d.plain() for d in self.dimensions}
        what = [self.trainer, self.dataset, self.cfg, self.shots, space, self.folds, self.held_out, self.sampler, list(self.opts)]
        return digest(what)[:12]

    def directory(self, out):
        return out / "tune" / self.trainer / self.dataset / f"shots_{self.shots}" / self.cfg / self.name

    def chains(self, settings, seed):
        """[[training run, its test on the held-out classes]] of each fold."""
        found = []
        for fold in range(self.folds):
            held = ("DATASET.HELD_OUT", str(self.held_out), "DATASET.HELD_OUT_SEED", str(fold), "TEST.SPLIT", "val")
            opts = (*self.opts, *settings, *held)
            parts = [
                Run(kind, self.dataset, self.trainer, self.cfg, seed, self.shots, opts=opts, variant=variant_name(opts))
                for kind in ("base2new_train", "base2new_test")
            ]
            found.append(parts)
        return found

    def scores(self, settings, seed, folder):
        """[{base, new, H, seconds}] of the folds; None where one isn't finished."""
        found = []
        for chain in self.chains(settings, seed):
            results = [run.result(folder) for run in chain]
            if None in results:
                return None
            base, new = (result["metrics"]["accuracy"] for result in results)
            seconds = sum((result.get("seconds") or {}).get("total") or 0.0 for result in results)
            found.append({"base": base, "new": new, "H": harmonic_mean(base, new), "seconds": seconds})
        return found


def search_of(args):
    """(Search, the recipe's configuration, seeds) of a command line."""
    import train

    facts.dataset_file(args.dataset)
    recipes.check_method(args.method, "METHOD ")
    if args.trials < 1 or args.folds < 1 or args.workers < 1 or not 0 < args.held_out < 1:
        raise UserError("--trials, --folds and --workers must be at least 1, --held-out above 0 and below 1")
    if args.method in recipes.ZEROSHOT_TRAINERS:
        raise UserError(f"{args.method} learns nothing: there is nothing to choose")
    shots = os.environ.get("SHOTS") or "16"
    if not shots.isdigit() or int(shots) == 0:
        raise UserError(f"SHOTS={shots}: expected a positive whole number")
    stem = os.environ.get("CFG") or recipes.default_cfg(args.method, args.dataset, "base2new", int(shots))
    recipes.trainer_file(args.method, stem)
    opts = tuple(word for pair in args.pairs for word in pair)
    run = Run("base2new_train", args.dataset, args.method, stem, args.seeds[0], int(shots), opts=opts)
    cfg = train.setup_cfg(train.build_parser().parse_args(run.words()))
    dimensions = tuple(tune_space.space(args.method, args.dataset, cfg, args.key))
    if not dimensions:
        raise UserError(f"{args.method} has no number to search: name keys with --key")
    fixed = {d.key for d in dimensions} & set(opts[::2])
    if fixed:
        raise UserError(f"{min(fixed)} is both set and searched: leave out --set, or name the keys to search with --key")
    search = Search(args.method, args.dataset, stem, int(shots), dimensions, args.folds, args.held_out, args.sampler, opts)
    return search, cfg


class Trials:
    """The trials of one seed, in a journal that an interrupted search goes on from."""

    def __init__(self, search, cfg, seed, folder):
        self.search, self.seed, self.folder = search, seed, folder
        self.optuna = import_optuna()
        self.space = {d.key: d.distribution() for d in search.dimensions}
        folder.mkdir(parents=True, exist_ok=True)
        backend = self.optuna.storages.journal.JournalFileBackend(str(folder / f"seed{seed}.journal"))
        storage = self.optuna.storages.JournalStorage(backend)
        self.study = self.optuna.create_study(
            storage=storage, study_name=f"seed{seed}", direction="maximize", load_if_exists=True, sampler=self.sampler(0)
        )
        if not self.study.trials:  # the first trial is the recipe itself, where the search has its values
            self.study.enqueue_trial(tune_space.of_recipe(search.dimensions, cfg))

    def sampler(self, number):
        """A sampler of a trial's own, so that a search that was interrupted goes on as one that wasn't."""
        seed = int(digest([self.search.name, self.seed, number])[:8], 16)
        if self.search.sampler == "random":
            return self.optuna.samplers.RandomSampler(seed=seed)
        return self.optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def of_state(self, *states):
        return self.study.get_trials(deepcopy=False, states=states)

    def next(self, wanted, count):
        """Up to `count` trials to make now, those first that an earlier call has begun; [] once `wanted` have ended."""
        state = self.optuna.trial.TrialState
        begun = self.of_state(state.RUNNING)[:count]
        ended = len(self.of_state(state.COMPLETE, state.FAIL))
        while len(begun) < count and ended + len(begun) < wanted:
            self.study.sampler = self.sampler(ended + len(begun))
            trial = self.study.ask(self.space)
            begun.append(self.study.trials[trial.number])
        return begun

    def settings(self, trial):
        return tune_space.settings(self.search.dimensions, trial.params, self.search.dataset)

    def tell(self, trial, folds):
        """The end of a trial: scores of its folds, or None where it failed."""
        if folds is None:
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial.number, statistics.mean(fold["H"] for fold in folds))

    def ended(self, runs):
        """[{number, settings, folds or None, H or None}] of all ended trials, in their order."""
        state = self.optuna.trial.TrialState
        found = []
        for trial in self.of_state(state.COMPLETE, state.FAIL):
            settings = self.settings(trial)
            folds = self.search.scores(settings, self.seed, runs) if trial.state == state.COMPLETE else None
            found.append({"number": trial.number, "settings": settings, "folds": folds, "H": trial.value})
        return found


def import_optuna():
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError("tune needs the Python package optuna, which is not installed: `pip install .[tune]`") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def make_runs(chains, data, folder, cluster):
    """Make the runs of some trials: on Ray, or one after the other."""
    if cluster is None:
        demo.make_all(chains, data, folder, 1)
    else:
        from reproduce import grid

        grid.make([run for chain in chains for run in chain], data, folder, cluster)


def make_trials(trials, args, data, runs, cluster):
    """Ask for trials, make their runs, tell their scores, until there are `--trials` of them."""
    while batch := trials.next(args.trials, args.workers):
        for trial in batch:
            words = " ".join(trials.settings(trial)) or "the recipe's own settings"
            print(f"seed {trials.seed}, trial {trial.number + 1} of {args.trials}: {words}", flush=True)
        chains = [chain for trial in batch for chain in trials.search.chains(trials.settings(trial), trials.seed)]
        make_runs(chains, data, runs, cluster)
        for trial in batch:
            trials.tell(trial, trials.search.scores(trials.settings(trial), trials.seed, runs))


def main(args):
    print(f"tune {args.method} {args.dataset}: starting", file=sys.stderr, flush=True)
    import_optuna()
    search, cfg = search_of(args)
    data, out = data_folder(), output_folder()
    folder, runs = search.directory(out), out / "tune" / "runs"
    each = [Trials(search, cfg, seed, folder) for seed in dict.fromkeys(args.seeds)]
    if args.workers == 1 and not args.address:
        for trials in each:
            make_trials(trials, args, data, runs, None)
    else:
        from reproduce import grid

        args.cpus_per_run, args.retries, args.no_cache_features = 1, 2, False
        with grid.cluster(args) as cluster:
            for trials in each:
                make_trials(trials, args, data, runs, cluster)
    whole = len(tune_space.of_recipe(search.dimensions, cfg)) == len(search.dimensions)
    report = tune_report.report(search, {trials.seed: trials.ended(runs) for trials in each}, whole)
    return tune_report.show(report, args.out or folder / "trials.json")
