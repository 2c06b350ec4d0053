"""Checks datasets before hours are spent on them.

    python -m datasets.check EuroSAT dtd --root data
    python -m datasets.check configs/datasets/my_photos.yaml --root data

Says for each: classes, images per split beside the expected numbers, images that are missing, unreadable or in more
than one split, files that are not used, labels and class names that a run would refuse. Every image is decoded unless
`--fast` is given. Exit status: 0 all is well, 2 something is wrong.
"""

import sys

from basics import UserError, home, program
from basics.program import EXIT_USER_ERROR, Parser
from dassl.config import check as check_values
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.readable import probe_images, remarks_on_images

from .common import MissingImages
from .names import find_dataset

SHOWN = 20  # how many bad files are listed one by one


def quick_check(cfg):
    """Check at the start of a run, in no time, that the dataset is known and where it should be.

    Raises:
        UserError: it isn't; the message says what is missing and what to do.
    """
    preflight = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "preflight", None)
    if preflight:  # a dataset file written for Dassl has none
        preflight(cfg)


def check(cfg, fast=False):
    """Check one dataset and print what was found.

    Args:
        cfg: config with DATASET.NAME and DATASET.ROOT; all classes and images are checked.
        fast: don't decode the images.

    Returns:
        List of problems, in words; [] if all is well.
    """
    print(f"{cfg.DATASET.NAME}:")
    try:
        dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
    except MissingImages as error:
        return [str(error), *_some(error.paths, "missing")]
    except UserError as error:
        return [str(error)]
    parts = {"train": dataset.train_x, "val": dataset.val or [], "test": dataset.test}
    problems = _check_counts(dataset, parts) + _check_names(dataset)
    if not parts["val"]:
        print("  Note: there are no validation images, so TEST.FINAL_MODEL best_val can't be used")
    images = {item.impath: None for data in parts.values() for item in data}
    if parts["train"] is not parts["test"] and [i.impath for i in parts["train"]] != [i.impath for i in parts["test"]]:
        shared = {i.impath for i in parts["train"]} & {i.impath for i in (*parts["val"], *parts["test"])}
        if shared:
            problems.append(f"{len(shared)} training images are also in val or test, first {min(shared)}")
    if not fast:
        problems += _check_images(list(images))
    return problems


def _check_counts(dataset, parts):
    """Print the table of counts; problems where they differ from those of the complete dataset."""
    counts = {"classes": len(dataset.classnames), **{part: len(data) for part, data in parts.items()}}
    expected = dict(zip(counts, getattr(dataset, "counts", (0, 0, 0, 0))))
    problems = []
    for what, count in counts.items():
        differs = expected[what] and count != expected[what]
        if what == "val" and parts["val"] and len(parts["val"]) == len(parts["test"]):
            differs = False  # ImageNet: val is the test set
        print(f"  {what:8}{count:>9}" + (f"   expected {expected[what]}" if differs else ""))
        if differs:
            problems.append(f"{what}: {count}, expected {expected[what]} (incomplete, or another split than the published one)")
    return problems


def _check_images(paths):
    """Decode every image; the errors of those that can't be."""
    oriented, transparent, errors = probe_images(paths)
    for line in remarks_on_images(len(paths), oriented, transparent, None):
        print(f"  {line}")
    return [f"{len(errors)} images can't be read; get them again", *_some(errors, "unreadable")] if errors else []


def _check_names(dataset):
    """Names that prompts can't tell apart; a line about names that are no words."""
    from prompting.classnames import check_classnames, remarks_on_names  # needs the tokenizer

    for line in remarks_on_names(dataset.classnames):
        print(f"  {line}")
    try:
        check_classnames(dataset.classnames, published=bool(getattr(dataset, "sources", ())))
    except UserError as error:
        return [str(error)]
    return []


def _some(items, what):
    """The first of many items, one a line."""
    more = [f"… and {len(items) - SHOWN} more {what}"] if len(items) > SHOWN else []
    return [f"  {item}" for item in items[:SHOWN]] + more


def make_cfg(name, root):
    """Config of a dataset given by name or by YAML file, all classes and images."""
    cfg = get_cfg_default()
    if name.endswith((".yaml", ".yml")):
        cfg.merge_from_file(name)
    else:
        cfg.DATASET.NAME = find_dataset(name).__name__
    cfg.DATASET.ROOT = root
    cfg.DATASET.NUM_SHOTS = -1
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    check_values(cfg)
    return cfg


def main(argv=None):
    """The command; returns the exit status."""
    return program.run(lambda: check_all(argv))


def check_all(argv):
    """Check the datasets that a command line names; 2 if anything is wrong."""
    parser = Parser(prog=home.command("check"), description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="datasets, e.g. EuroSAT, oxford_pets or a YAML file")
    parser.add_argument("--root", default="data", help="data folder (default: data)")
    parser.add_argument("--fast", action="store_true", help="don't decode the images")
    args = parser.parse_args(argv)
    status = 0
    for name in args.names:
        try:
            problems = check(make_cfg(name, args.root), args.fast)
        except UserError as error:
            problems = [str(error)]
        for problem in problems:
            print(f"  PROBLEM: {problem}" if not problem.startswith(("  ", "…")) else f"    {problem.strip()}")
        if problems:
            status = EXIT_USER_ERROR
        else:
            print("  all is well")
    return status


if __name__ == "__main__":
    sys.exit(program.as_process(main))
