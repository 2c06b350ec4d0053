"""What happens to a run's folder and seed before a trainer is built."""

import contextlib
import os
import random

from basics.job import is_first
from basics.locks import LOCK

from ..utils import UserError, lock_output_dir, parallel
from .build import TRAINER_REGISTRY
from .run_folder import EVALUATION, TRAINING, check_folders, earlier_run


@contextlib.contextmanager
def output_lock(folder):
    """Hold the output folder against a second run; of a torchrun job only rank 0 does."""
    if is_first():
        with lock_output_dir(folder):
            try:
                yield
            except OSError as e:
                if not os.path.exists(os.path.join(folder, LOCK)):
                    raise UserError(f"the output folder {folder} was removed while the run wrote into it") from e
                raise
    else:
        yield


def draw_seed(cfg, folders):
    """Give a configuration without a seed one: that of an earlier run in one of the folders, else a random one.

    ``folders``: of runs that this one continues or evaluates, "" for none.
    """
    if cfg.SEED >= 0:
        return
    earlier = [earlier_run(folder) for folder in folders if folder and os.path.isdir(folder)]
    seeds = [run.identity.get("SEED") for run in earlier if run]
    known = next((seed for seed in seeds if isinstance(seed, int) and seed >= 0), None)
    seed = parallel.from_main(random.SystemRandom().getrandbits(32) if known is None else known)
    cfg.defrost()
    cfg.SEED = seed
    cfg.freeze()
    print(f"SEED is -1: this run has seed {seed}, {'drawn at random' if known is None else 'that of the run it belongs to'}")


def check_run_folder(cfg, evaluates, fresh):
    """Refuse a folder that is another run's before anything is loaded or written; with ``fresh`` move its files aside."""
    if is_first() and cfg.TRAINER.NAME in TRAINER_REGISTRY.registered_names():
        learns = getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "learns", True)
        check_folders(cfg, TRAINING if learns and not evaluates else EVALUATION, fresh)
