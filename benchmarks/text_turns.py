"""MoCoOp's text side of a step with the text loss on some experts in turn (TEXT_EXPERTS): time saved, and error of the gradient.

    python -m benchmarks.text_turns --backbone models/builtin --classes 1000 --experts 20 --take 5

The gradient of L_text with respect to all contexts, of one step with ``--take`` experts against the full one: relative error of a
single step, and of the mean over a whole turn, which is exact but for rounding. Times are medians of the
process' own CPU seconds for forward and backward passes of the text side, in turns; a step also encodes experts that its batch
chose (--chosen), as in training.
"""

import random
import sys
import time

import torch
from tabulate import tabulate

from basics import home, program, write_json
from basics.program import Parser
from benchmarks.measure import median_times
from benchmarks.text_memory import invented_names
from benchmarks.text_tower import text_tower
from prompting import load_clip, read_groups, soft_parts, template_programs, unit
from trainers.mocoop.losses import by_template_count, text_loss_templates


def templates(count):
    """The first template of so many of ImageNet's groups, and others of its file where there are fewer."""
    groups = read_groups(home.find("templates/imagenet.txt"))
    rest = [t for g in groups for t in g.templates[1:]]
    return [*[g.templates[0] for g in groups], *rest][:count]


class Side:
    """The text side: G plans of C programs, contexts, and hard features of as many templates (one a group)."""

    def __init__(self, tower, encode, names, experts):
        self.encode, self.plans, rows = encode, [], []
        for template in templates(experts):
            before, after, _ = soft_parts(template, tower.tokenizer)
            programs = template_programs(template, names, sum(map(len, rows)), tokenizer=tower.tokenizer)
            self.plans.append(tower.compile([programs]))
            rows.append(before + after)
        self.whole = tower.compile([plan.programs[0] for plan in self.plans])
        ctx = tower.embed(torch.tensor([i for row in rows for i in row]))
        torch.manual_seed(0)
        self.hard = []
        with torch.no_grad():  # soft features that have moved away from the hard ones, as in training
            features = unit(self.encode(self.whole, ctx))
            self.hard = [features[g : g + 1] for g in range(experts)]
        self.ctx = (ctx + 0.02 * torch.randn_like(ctx)).requires_grad_()

    def features(self, experts):
        """{expert: [C, E]}; all in one pass, some one by one, as training does."""
        if experts is None:
            return dict(enumerate(unit(self.encode(self.whole, self.ctx))))
        return {g: unit(self.encode(self.plans[g], self.ctx))[0] for g in experts}

    def gradient(self, taken, chosen):
        """Gradient of L_text on the experts ``taken`` (None: all); features of ``chosen`` are made beside them."""
        self.ctx.grad = None
        found = self.features(None if taken is None else sorted({*taken, *chosen}))
        experts = range(len(self.hard)) if taken is None else taken
        soft = torch.stack([found[g] for g in experts])
        text_loss_templates(soft, by_template_count([self.hard[g] for g in experts]), 0.07).backward()
        return self.ctx.grad.clone()


def build_tower(args):
    """(tower, function (plan, contexts) -> features); of random weights in the shapes of ViT-B/16 without --backbone."""
    if args.backbone:
        clip = load_clip(args.backbone)
        return clip.text, lambda plan, ctx: clip.encode_text(plan, ctx, args.checkpointing, True)
    tower = text_tower()
    return tower, lambda plan, ctx: tower(plan, ctx, checkpointing=args.checkpointing)


def run(args):
    torch.set_num_threads(1)
    tower, encode = build_tower(args)
    side = Side(tower, encode, invented_names(args.classes), args.experts)
    order = random.Random(1).sample(range(args.experts), args.experts)
    turns = [order[i : i + args.take] for i in range(0, args.experts, args.take)]
    full = side.gradient(None, [])
    some = [side.gradient(turn, []) for turn in turns]
    relative = lambda g: float((g - full).norm() / full.norm())  # noqa: E731
    mean = sum(some) / len(some)
    chosen = order[: args.chosen]
    steps = [lambda: side.gradient(None, []), lambda: side.gradient(turns[-1], chosen)]
    whole, part = median_times(steps, args.repeats, clock=time.process_time)
    found = {
        "backbone": args.backbone or "ViT-B/16's shapes, random weights", "classes": args.classes, "experts": args.experts,
        "take": args.take, "chosen": args.chosen, "seconds_all": whole, "seconds_some": part,
        "times_faster": whole / part, "error_of_a_step": sum(map(relative, some)) / len(some),
        "error_of_a_turn": relative(mean),
    }  # fmt: skip
    print(tabulate(found.items(), floatfmt=".4g"))
    if args.json:
        write_json(found, args.json)


def main(argv=None):
    parser = Parser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--backbone", default="", help="a model as MODEL.BACKBONE.NAME (default: ViT-B/16's shapes, random weights)"
    )
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument("--take", type=int, default=5, help="experts of a step's text loss; must divide --experts")
    parser.add_argument("--chosen", type=int, default=4, help="experts that the images of a batch chose")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    return program.run(lambda: run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
