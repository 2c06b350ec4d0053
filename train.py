"""Train or evaluate one method on one dataset: CoOp's command line.

    python train.py --root data --seed 1 --trainer CoOp --dataset-config-file configs/datasets/eurosat.yaml \\
        --config-file configs/trainers/CoOp/vit_b16_ctxv1.yaml --output-dir output/eurosat DATASET.NUM_SHOTS 16

Later settings win: engine and method defaults, dataset file, method file, options, KEY VALUE pairs.
With `torchrun --nproc-per-node 2 train.py …` several processes share one run (docs/parallel.md).

Exit status: 0 done; 2 something the user can mend (one `error: ...` line on stderr and in log.txt);
130 Ctrl-C; 143 SIGTERM; anything else is a bug and shows its traceback.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
import warnings
from pathlib import Path

from basics import UserError, home, nearest_file
from basics.job import in_parallel, is_first
from basics.program import EXIT_INTERRUPTED, EXIT_STATUSES, EXIT_TERMINATED, Parser, Terminated, as_process, importing, to_stderr
from basics.program import run as run_program

# Engine and methods are imported inside functions: `--help` and a mistyped option then answer at once.

__all__ = ["Terminated", "main", "program", "run"]  # for programs that start runs in their own process
AFTER = "; the same command goes on from the last checkpoint in its output folder"
_anew = False  # whether the trainer that runs has a training loop of its own, from which nothing is resumed


def build_parser(repository=None):
    parser = Parser(
        prog=home.command("train"),
        description="Train or evaluate one prompt-learning method on one dataset.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--root", default="", help="folder that holds the datasets (default: data)")
    parser.add_argument("--output-dir", default="", help="where log.txt, checkpoints and results.json go")
    parser.add_argument("--resume", default="", help="resume training from the checkpoint in this run folder")
    parser.add_argument("--seed", type=int, default=-1, help="seed of samples, initial values and data order")
    parser.add_argument("--source-domains", nargs="+", help="source domains (domain adaptation / generalisation)")
    parser.add_argument("--target-domains", nargs="+", help="target domains (domain adaptation / generalisation)")
    parser.add_argument("--transforms", nargs="+", help="training transforms, in order")
    parser.add_argument("--config-file", default="", help="YAML file of the method")
    parser.add_argument("--dataset-config-file", default="", help="YAML file of the dataset")
    parser.add_argument("--trainer", default="", help="method: CoOp, CoCoOp, KgCoOp, MoCoOp, ...")
    parser.add_argument("--backbone", default="", help="CLIP model, e.g. ViT-B/16 (MODEL.BACKBONE.NAME)")
    parser.add_argument("--head", default="", help="MODEL.HEAD.NAME")
    parser.add_argument("--eval-only", action="store_true", help="evaluate, don't train")
    parser.add_argument("--model-dir", default="", help="with --eval-only: run folder to load the trained model from")
    parser.add_argument("--load-epoch", type=int, help="with --model-dir: epoch to load (default: the best or last)")
    parser.add_argument(
        "--fresh", action="store_true", help="start anew: the files of the run in --output-dir are moved into replaced-1 in it"
    )
    parser.add_argument(
        "--keys", nargs="?", const="", metavar="WORD", help="say what each key is (docs/keys.md), or those with WORD in them"
    )
    parser.add_argument("--no-train", action="store_true", help="build everything, then stop")
    parser.add_argument(
        "--cache-features",
        action="store_true",
        help="keep image features of training batches, for runs with the same seed and batch size",
    )
    parser.add_argument(
        "--save-predictions", action="store_true", help="write the scores of every test image to predictions.safetensors"
    )
    parser.set_defaults(repository=repository)
    if repository:
        repository.add_arguments(parser)
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to set, e.g. DATASET.NUM_SHOTS 16 OPTIM.MAX_EPOCH 50",
    )
    return parser


def config_file(path, option):
    """The path of a YAML file as it was given, or of ours of that name."""
    path = home.found(path) if path else ""
    if not path or Path(path).is_file():
        return path
    near = nearest_file(path)
    hint = f"; the nearest existing file is {near}" if near else ""
    raise UserError(f"{option}: no such file: {path}{hint}")


def check_options(args):
    for word in args.opts[::2]:
        if word.startswith("-"):
            raise UserError(f"{word} comes after the first KEY VALUE pair; options go before the pairs")
    if args.load_epoch is not None and not args.model_dir:
        raise UserError("--load-epoch says which epoch of --model-dir to load, but there is no --model-dir")
    if args.model_dir and not args.eval_only:
        raise UserError("--model-dir is for --eval-only; training goes on from a folder with --resume")
    if args.resume and args.eval_only:
        raise UserError("--resume is for training; with --eval-only the folder of a trained model is --model-dir")


def reset_cfg(cfg, args):
    """Copy the options that were given into their config keys."""
    given = [
        ("DATASET.ROOT", args.root),
        ("OUTPUT_DIR", args.output_dir),
        ("RESUME", args.resume),
        ("SEED", args.seed if args.seed != -1 else ""),
        ("DATASET.SOURCE_DOMAINS", args.source_domains),
        ("DATASET.TARGET_DOMAINS", args.target_domains),
        ("INPUT.TRANSFORMS", args.transforms),
        ("TRAINER.NAME", args.trainer),
        ("MODEL.BACKBONE.NAME", args.backbone),
        ("MODEL.HEAD.NAME", args.head),
        ("TRAINER.CACHE_VIEWS", args.cache_features or ""),
        ("TEST.SAVE_PREDICTIONS", args.save_predictions or ""),
    ]
    for key, value in given:
        if value not in (None, ""):
            node = cfg
            *parents, leaf = key.split(".")
            for name in parents:
                node = node[name]
            node[leaf] = tuple(value) if isinstance(value, list) else value


def foreign_repository(argv):
    """The repository in foreign/ that has the trainer of a command line; None for a trainer of ours.

    It is looked for before the command line is read, because its settings file may add options.
    """
    trainer = ""
    for i, word in enumerate(argv):
        following = argv[i + 1] if i + 1 < len(argv) else ""
        trainer = following if word in ("--trainer", "TRAINER.NAME") else trainer
        trainer = word.partition("=")[2] if word.startswith("--trainer=") else trainer
    if not trainer or not home.listed("foreign", "*_settings.py"):
        return None
    from foreign import repository_of

    return repository_of(trainer, {folder.name for folder in home.listed("configs/trainers", "*")})


def setup_cfg(args, extend=None):
    """Defaults, dataset file, method file, options, KEY VALUE pairs, in this order; checked and frozen.

    A foreign repository adds its keys to the defaults, and computes what it computes once all is merged.
    extend: adds the methods' keys to the defaults, in place of ``trainers.extend_cfg``.
    """
    from dassl.config import IMAGE_KEYS, check, get_cfg_default, was_given

    cfg, repository = get_cfg_default(), args.repository
    if extend is None:
        from trainers import extend_cfg

        extend_cfg(cfg, repository.trainer if repository else args.trainer)
    else:
        extend(cfg)
    if repository:
        repository.extend_cfg(cfg, args)
    merge(cfg, args)
    cfg.DATASET.ROOT = cfg.DATASET.ROOT or "data"
    if repository:
        cfg.TRAINER.NAME = repository.trainer
        repository.after_merge(cfg, args)
        repository.register()
    if cfg.INPUT.PREPROCESS == "model" or not all(was_given(cfg.INPUT, name) for name in IMAGE_KEYS):
        from trainers import preprocessing

        preprocessing.settle(cfg)
    check(cfg)
    cfg.freeze()
    return cfg


def merge(cfg, args):
    """Put the dataset's file, the method's file, options and KEY VALUE pairs into a configuration with its defaults."""
    if args.dataset_config_file:
        cfg.merge_from_file(args.dataset_config_file)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    reset_cfg(cfg, args)
    cfg.merge_from_list(args.opts)


def print_args(args, cfg):
    """The header that logs of this family start with; parsers look for it."""
    print_title("Arguments")
    for key in sorted(
        vars(args).keys() - {"cache_features", "fresh", "keys", "repository", "save_predictions"}
    ):  # not upstream's
        print(f"{key}: {getattr(args, key)}")
    print_title("Config")
    print(in_use(cfg))


def in_use(cfg):
    """The configuration without the methods' sections that this run's method doesn't read; whole for a trainer of others."""
    from dassl.config import keys_of
    from dassl.engine import TRAINER_REGISTRY
    from trainers import readers

    method, of_section = cfg.TRAINER.NAME, readers()
    if getattr(TRAINER_REGISTRY.get(method), "section", None) is None:
        return cfg
    shown = cfg.clone()
    shown.defrost()
    for section, node in cfg.TRAINER.items():
        if isinstance(node, dict):
            keys = keys_of(node, f"TRAINER.{section}.")
            who = [known.reader or of_section.get(name.rpartition(".")[0], "") for name, known, _ in keys]
            if who and not any(method in names.split(", ") for names in who):
                del shown.TRAINER[section]
    return shown


def print_title(title):
    line = "*" * (len(title) + 6)
    print(f"{line}\n** {title} **\n{line}")


def join_others():
    """Meet the other processes of a torchrun job; from now on only the first one prints."""
    if in_parallel():
        from dassl.utils import parallel

        parallel.join()
        if not is_first():
            sys.stdout = open(os.devnull, "w")
            warnings.simplefilter("ignore")


def run(args):
    """Build the trainer that the arguments describe and train or evaluate it."""
    if args.keys is not None:
        return show_keys(args.keys)
    check_options(args)
    args.dataset_config_file = config_file(args.dataset_config_file, "--dataset-config-file")
    args.config_file = config_file(args.config_file, "--config-file")
    if not args.repository and "torch" not in sys.modules:
        from dassl.config import known

        cfg = known.check_at_once(lambda cfg: merge(cfg, args))
        if cfg is not None:
            from datasets.check import quick_check

            cfg.DATASET.ROOT = cfg.DATASET.ROOT or "data"
            quick_check(cfg)
    if "torch" not in sys.modules and is_first():  # a sign of life: importing PyTorch takes seconds
        print("starting", file=sys.stderr if sys.stderr.isatty() else sys.stdout, flush=True)
    import_methods()
    cfg = setup_cfg(args)
    from dassl.engine import launch
    from dassl.utils import parallel

    parallel.start(cfg.USE_CUDA)
    with launch.output_lock(cfg.OUTPUT_DIR):
        launch.draw_seed(cfg, ["" if args.fresh else cfg.OUTPUT_DIR, cfg.RESUME, args.model_dir])
        if not args.no_train:
            launch.check_run_folder(cfg, args.eval_only, args.fresh)
        run_locked(args, cfg)
    parallel.finish()


def import_methods():
    """Import PyTorch, and register data sets and methods."""
    with importing():
        import datasets.fewshot  # noqa: F401  registers the datasets, too
        import trainers  # noqa: F401


def show_keys(word):
    """Print the reference of all keys, or of those with ``word`` in them."""
    from dassl.config import get_cfg_default
    from dassl.config.reference import reference
    from trainers import extend_cfg, readers

    cfg = get_cfg_default()
    extend_cfg(cfg)
    text = reference(cfg, readers(), word)
    if not text:
        raise UserError(f"--keys: no key has {word!r} in its name or description")
    print(text)


def run_locked(args, cfg):
    import datasets.fewshot
    from dassl.config import remarks
    from dassl.engine import TRAINER_REGISTRY, build_trainer
    from dassl.utils import collect_env_info, parallel, set_random_seed, setup_logger
    from trainers import PromptTrainer, preprocessing, readers

    print(f"Setting fixed seed: {cfg.SEED}")
    set_random_seed(cfg.SEED)
    if is_first():
        setup_logger(cfg.OUTPUT_DIR)
    print_args(args, cfg)
    for line in remarks(cfg, readers()):
        print(line)
    if in_parallel():
        print(f"{parallel.world_size()} processes share each batch and the prompts")
    print("Collecting env info ...")
    print(f"** System info **\n{collect_env_info()}\n")

    repository = args.repository
    if repository:
        datasets.fewshot.also_pickled = True  # its trainer may open the file
    if not issubclass(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), PromptTrainer):
        cfg = preprocessing.settled(cfg, own_model=True)
    trainer = build_trainer(cfg)
    say_if_not_resumed(trainer)
    if args.eval_only:
        if repository:
            repository.before_evaluation(trainer)
        trainer.evaluate(args.model_dir, args.load_epoch)
    elif not args.no_train:
        trainer.train()


def say_if_not_resumed(trainer):
    """A trainer that overrides train() writes no resume points: an interrupted run isn't promised to go on."""
    global _anew
    from dassl.engine import SimpleTrainer

    _anew = type(trainer).train is not SimpleTrainer.train
    if _anew and trainer.learns:
        print(f"{type(trainer).__name__} has a training loop of its own: an interrupted run starts anew")


def report(message, status):
    """Print to stderr and, once the log is open, write the same there. Of several processes one prints."""
    shown = True
    if in_parallel():
        for number in (signal.SIGINT, signal.SIGTERM):  # torchrun repeats signals, and sends them to those that are left
            signal.signal(number, signal.SIG_IGN)
    engine = sys.modules.get(home.qualified("dassl.utils")) if in_parallel() else None
    if engine:
        signalled = status in (EXIT_INTERRUPTED, EXIT_TERMINATED)  # as all processes are
        if signalled and not is_first():
            return
        message, shown = engine.parallel.first_report(message)
    if shown:
        to_stderr(message, status)
    log = getattr(sys.stdout, "file", None)
    if log is not None:
        with contextlib.suppress(OSError):  # the disk may be what is full
            log.write(message + "\n")


def work(argv):
    """One command line, of which torchrun may run several processes."""
    try:
        join_others()
        repository = foreign_repository(sys.argv[1:] if argv is None else argv)
        run(build_parser(repository).parse_args(argv))
    except BaseException as error:
        if type(error).__name__ == "LostProcessError":
            time.sleep(1)  # where all processes were told to end and another did first, the signal arrives here next
        raise


def main(argv=None):
    """Run one command line; returns the exit status."""
    stdout = sys.stdout
    try:
        return run_program(lambda: work(argv), lambda: "" if _anew else AFTER, report)
    finally:
        sys.stdout = stdout


def program(argv=None):
    """`main` for a process of its own; returns the exit status."""
    return as_process(lambda: main(argv))


if __name__ == "__main__":
    sys.exit(program())
