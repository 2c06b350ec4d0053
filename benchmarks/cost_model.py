"""Cost model of Table 1's whole grid: 11 datasets x 6 methods x 3 seeds, base-to-new, ViT-B/16, in floating-point operations.

    python -m benchmarks.cost_model --json cost_model.json

Nothing is timed: CLIP's two encoders run on PyTorch's meta device and its counter adds up their matrix products, forward, and
backward where a method needs it. Epochs, batch sizes and prompts are those of the published recipes in configs/; numbers of
classes and test images those of the published splits; class names (of one to four words) stand in for the real ones.

Three ways:

- published: 77 positions a prompt, learned prompts again for every test batch, images encoded by every run (by ProGrad's
  published trainer also for its zero-shot teacher);
- one run: this project's text tower, text once an evaluation, images encoded once a step;
- whole grid: the same, and features of test sets shared by all runs on a dataset, those of training views by runs with one
  seed and batch size (``--cache-features``, the default of ``python -m reproduce table1 --run``).
"""

import sys
from functools import lru_cache
from pathlib import Path

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from basics import program, write_json
from basics.program import Parser
from basics.settings import read_settings
from benchmarks.inference_time import random_clip
from benchmarks.text_memory import invented_names
from benchmarks.text_tower import text_tower
from prompting import build_plan, context_programs, encode, group_file, read_groups, soft_parts, template_for, template_programs
from reproduce import recipes
from reproduce.experiments import ELEVEN
from reproduce.facts import dataset_class

METHODS = ("ZeroshotCLIP", "CoOp", "CoCoOp", "ProGrad", "KgCoOp", "MoCoOp")
SHOTS = 16
WAYS = ("published", "one run", "whole grid")
PARTS = ("training images", "training text", "test images", "test text")


def recipe(method, dataset):
    """(batch size, epochs, test batch size) of a method's published YAML file; the zero-shot one doesn't train."""
    stem = recipes.default_cfg(method, dataset, "base2new", SHOTS)
    options = {key: value for key, (value, _) in read_settings(str(recipes.trainer_file(method, stem))).items()}
    epochs = 0 if method == "ZeroshotCLIP" else options["OPTIM.MAX_EPOCH"]
    return options.get("DATALOADER.TRAIN_X.BATCH_SIZE", 1), epochs, options["DATALOADER.TEST.BATCH_SIZE"]


def programs_of(method, dataset, names):
    """([G][C] programs of a method's prompts for these classes, number of learned vectors)."""
    if method == "MoCoOp":
        found, offset = [], 0
        for group in read_groups(group_file(dataset_class(dataset))):
            found.append(template_programs(group.templates[0], names, offset))
            offset += sum(map(len, soft_parts(group.templates[0])[:2]))
        return found, offset
    length = 4
    if method == "ProGrad":
        length = max(16, len(encode(template_for(dataset_class(dataset), "ProGrad").replace(" {}.", ""))))
    return [context_programs(names, length)], length


@lru_cache
def tower():
    return text_tower().to("meta")


def flops(function):
    """Floating-point operations of the matrix products in ``function``."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def plain_text(programs, learned, backward):
    """Operations of the published computation; every prompt costs the same, so one is counted."""
    plan_size = sum(map(len, programs))

    def one():
        x = torch.empty(1, 77, tower().width, device="meta", requires_grad=backward)
        mask = torch.empty(77, 77, device="meta")
        for block in tower().blocks:
            x = block(x, attn_mask=mask)
        if backward:
            x.sum().backward()

    return plan_size * flops(one)


def fast_text(programs, learned, backward):
    """Operations of this project's text tower."""
    plan = build_plan(programs).to("meta")
    vectors = torch.empty(learned, tower().width, device="meta", requires_grad=backward)

    def one():
        features = tower()(plan, vectors)
        if backward:
            features.sum().backward()

    return flops(one)


def image_flops():
    """Operations of encoding one image."""
    clip = random_clip("cpu", "fp32")
    visual = clip.visual.to("meta")
    with torch.no_grad():
        return flops(lambda: visual(torch.empty(1, 3, clip.image_size, clip.image_size, device="meta")))


def costs(method, dataset, image):
    """{way: {part: operations}} of one run, both halves evaluated; text and images of every batch as published or as here."""
    classes, _, _, test_images = dataset_class(dataset).counts
    names = invented_names(classes)
    base, new = names[: (classes + 1) // 2], names[(classes + 1) // 2 :]
    batch, epochs, test_batch = recipe(method, dataset)
    train_images = SHOTS * len(base)
    steps = epochs * max(1, train_images // batch)
    seen = names if method == "MoCoOp" else base  # its text loss reads all classes
    per_image = batch if method == "CoCoOp" else 1
    result = {}
    for way, text in (("published", plain_text), ("one run", fast_text)):
        train_text = 0
        if epochs:
            train_text = steps * per_image * text(*programs_of(method, dataset, seen), True)
        eval_text = 0
        for half in (base, new):
            count = test_images * len(half) // classes
            if method == "CoCoOp":
                times = count
            elif way == "published" and epochs:
                times = -(-count // test_batch)
            else:
                times = 1
            eval_text += times * text(*programs_of("CoOp" if method == "ZeroshotCLIP" else method, dataset, half), False)
        encodings = 2 if way == "published" and method == "ProGrad" else 1
        result[way] = dict(zip(PARTS, (steps * batch * image * encodings, train_text, test_images * image, eval_text)))
    return result


def grid(seeds, datasets):
    """{way: {method: {part: operations}}} of the whole grid."""
    image = image_flops()
    total = {way: {m: dict.fromkeys(PARTS, 0) for m in METHODS} for way in WAYS}
    for dataset in datasets:
        views = set()  # (batch size, batches' epochs) whose features another run keeps
        for number, method in enumerate(METHODS):
            run = costs(method, dataset, image)
            batch, epochs, _ = recipe(method, dataset)
            times = 1 if method == "ZeroshotCLIP" else seeds
            for way in WAYS:
                parts = dict(run["published" if way == "published" else "one run"])
                if way == "whole grid":
                    parts["test images"] *= number == 0
                    done = max([e for b, e in views if b == batch], default=0)
                    if epochs:
                        parts["training images"] *= max(0, epochs - done) / epochs
                for part, operations in parts.items():
                    once = way == "whole grid" and part == "test images"
                    total[way][method][part] += operations * (1 if once else times)
            views.add((batch, epochs))
    return total


def main(argv=None):
    """Run one command line; prints the tables and returns {way: {method: {part: operations}}}."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--datasets", nargs="+", default=ELEVEN, choices=ELEVEN, help="default: all")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    total = grid(args.seeds, args.datasets)
    for way in WAYS:
        rows = [[m, *(total[way][m][p] / 1e15 for p in PARTS), sum(total[way][m].values()) / 1e15] for m in METHODS]
        rows.append(["all", *map(sum, zip(*(row[1:] for row in rows)))])
        share = (rows[-1][1] + rows[-1][3]) / rows[-1][5]
        print(f"\n{way}, in 10^15 operations; images' share {100 * share:.1f} %\n")
        print(tabulate(rows, ["method", *PARTS, "sum"], floatfmt=",.1f"), flush=True)
    if args.json:
        write_json(total, args.json)
    return total


if __name__ == "__main__":
    sys.exit(program.as_process(main))
