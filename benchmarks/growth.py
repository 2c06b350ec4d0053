"""How cost grows with classes, experts and images, with the exponents that were measured.

    python -m benchmarks.growth --json growth.json

CPU seconds, medians. An exponent is the slope of log seconds (or bytes) over log size between the larger half of the sizes: 1 is
proportional, below it a fixed part still counts.

- plan: class names to tokens, and prompts to the plan of the packed tower; once a run.
- step: forward and backward of the text side with the built-in model's tower.
- kept features: writing an entry of the cache, reading it with the check of its hash, and logits for 100 classes in batches;
  memory is what writing, and reading with the logits, take at most beyond what was in use before.
"""

import itertools
import math
import random
import sys
import tempfile
import time

import torch
from tabulate import tabulate

from basics import home, program, write_json
from basics.program import Parser
from benchmarks.end_to_end import peak_mb
from benchmarks.measure import median_times
from benchmarks.text_tower import CALTECH_BASE
from prompting import build_plan, context_programs, load_clip, unit
from prompting.feature_cache import FeatureCache

CLASSES, EXPERTS, IMAGES = (10, 100, 1_000, 10_000, 21_000), (1, 3, 10, 30, 100), (1_000, 10_000, 100_000, 1_000_000)
STEP_CLASSES, STEP_EXPERTS = (10, 30, 100, 300, 1_000), (1, 3, 10, 30)
AT_EXPERTS = 20  # classes of the rows over experts
WIDTH, BATCH = 512, 100  # of kept features: ViT-B/16's; images at a time


def names(count, seed):
    """Different class names of two to four words."""
    draw, found = random.Random(seed), {}
    while len(found) < count:
        found[" ".join(draw.choices(CALTECH_BASE, k=draw.randint(2, 4)))] = None
    return list(found)


def plan_of(classes, experts, seed=0, n=4):
    """Plan of all classes with so many experts of n vectors each. seed: of the names."""
    one = context_programs(names(classes, seed), n)
    shifted = lambda e: [[row - e * n if row < 0 else row for row in program] for program in one]  # noqa: E731
    return build_plan([shifted(e) for e in range(experts)])


def exponent(sizes, costs):
    """Slope of log cost over log size, from the middle size to the last."""
    middle = (len(sizes) - 1) // 2
    return math.log(costs[-1] / costs[middle]) / math.log(sizes[-1] / sizes[middle])


def planned(classes, experts, repeats):
    """{"seconds", "tokens"} of building a plan."""
    seeds = itertools.count(1)
    (seconds,) = median_times([lambda: plan_of(classes, experts, next(seeds))], repeats, clock=time.process_time)
    return {"seconds": seconds, "tokens": plan_of(classes, experts).num_tokens}


def stepped(clip, classes, experts, repeats):
    """{"seconds"} of encoding all prompts, and of their gradients."""
    plan = plan_of(classes, experts)
    learned = (0.02 * torch.randn(4 * experts, clip.text.width)).requires_grad_()

    def step():
        learned.grad = None
        unit(clip.encode_text(plan, learned, raw=True)).square().sum().backward()

    (seconds,) = median_times([step], repeats, clock=time.process_time)
    return {"seconds": seconds}


def kept(images):
    """{"write", "read", "logits" seconds, "write_mb", "read_mb", "file_mb"} of kept features of so many images."""
    block, weights = unit(torch.randn(1_000, WIDTH)), unit(torch.randn(100, WIDTH))
    batches = lambda: (block[i : i + BATCH] for _ in range(images // len(block)) for i in range(0, len(block), BATCH))  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        clock, found = time.process_time, {}

        def written(cache):
            cache.fetch("features", {"images": images}, "", images, batches)

        def read(cache):
            return cache.fetch("features", {"images": images}, "", images, None)[0]

        def logits(features):
            for batch in features.split([BATCH] * (images // BATCH)):
                batch @ weights.T

        cache = FeatureCache(folder + "/first", 100.0, lambda line: None)
        found["write_mb"] = peak_mb(lambda: written(cache), "cpu")
        found["read_mb"] = peak_mb(lambda: logits(read(cache)), "cpu")
        start = clock()
        features = read(cache)
        found["read"] = clock() - start
        start = clock()
        logits(features)
        found["logits"] = clock() - start
        start = clock()
        written(FeatureCache(folder + "/second", 100.0, lambda line: None))
        return {"write": clock() - start, **found, "file_mb": cache.size() / 1e6}


def main(argv=None):
    """Run one command line; prints the tables and returns what they show."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes of each")
    parser.add_argument("--repeats", type=int, default=3, help="measured calls; medians are reported")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    some = (lambda sizes: sizes[:2]) if args.quick else (lambda sizes: sizes)
    clip = load_clip(str(home.PROJECT / "models" / "builtin"))
    found = {
        "plan, by classes, one expert": {n: planned(n, 1, args.repeats) for n in some(CLASSES)},
        f"plan, by experts, {AT_EXPERTS} classes": {n: planned(AT_EXPERTS, n, args.repeats) for n in some(EXPERTS)},
        "step, by classes, one expert": {n: stepped(clip, n, 1, args.repeats) for n in some(STEP_CLASSES)},
        f"step, by experts, {AT_EXPERTS} classes": {n: stepped(clip, AT_EXPERTS, n, args.repeats) for n in some(STEP_EXPERTS)},
        "kept features, by images": {n: kept(n) for n in some(IMAGES)},
    }
    if not args.quick:
        found["plan, 20 experts, 21,000 classes"] = {21_000: planned(21_000, 20, 1)}
    for title, rows in found.items():
        columns = list(next(iter(rows.values())))
        table = [[f"{size:,}", *(row[column] for column in columns)] for size, row in rows.items()]
        if len(rows) > 1:
            costs = {column: [row[column] for row in rows.values()] for column in columns}
            slopes = [exponent(list(rows), values) if all(values) else None for values in costs.values()]
            table.append(["exponent", *slopes])
        print(f"\n{title}\n\n{tabulate(table, ['', *columns], floatfmt='.4g')}", flush=True)
    if args.json:
        write_json({title: {str(size): row for size, row in rows.items()} for title, rows in found.items()}, args.json)
    return found


if __name__ == "__main__":
    sys.exit(program.as_process(main))
