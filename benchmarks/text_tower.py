"""Each method's text side, fast tower against the published 77-token computation, in one run.

    python benchmarks/text_tower.py --threads 1 --json text_tower.json

CLIP ViT-B/16's text dimensions (width 512, 12 layers, 8 heads), random weights: speed doesn't depend on their values.
--architecture takes those of another of open_clip's causal text towers, with its number of positions and CLIP's tokens. A case
is one step of a method's text side: encode all prompts, and (in training) the gradients of the learned vectors.

The JSON file holds {case: {"classes", "speedup", "memory_ratio", "max_rel_err", ...}}: times faster (ratio of medians), times
less memory kept for backward (in evaluation, which keeps none: that one copy of its prompts would need), largest error of
features and gradients relative to the largest value; token positions a second and arithmetic (10^12 matrix-product operations a
second), of which --peak-tflops gives the share of the device's peak.
"""

import itertools
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from basics import UserError, program, write_json
from basics.program import Parser
from benchmarks.measure import kept_bytes, median_times, relative_error
from prompting import Insertions, build_plan, context_programs, learned, soft_parts, template_programs, unit
from prompting.insertions import NOTHING
from prompting.reference import encode_reference
from prompting.tower import TextTower

EUROSAT = [
    "Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road", "Industrial Buildings", "Pasture Land",
    "Permanent Crop Land", "Residential Buildings", "River", "Sea or Lake",
]  # fmt: skip
CALTECH_BASE = [
    "face", "leopard", "motorbike", "accordion", "airplane", "anchor", "ant", "barrel", "bass", "beaver", "binocular", "bonsai",
    "brain", "brontosaurus", "buddha", "butterfly", "camera", "cannon", "car_side", "ceiling_fan", "cellphone", "chair",
    "chandelier", "cougar_body", "cougar_face", "crab", "crayfish", "crocodile", "crocodile_head", "cup", "dalmatian",
    "dollar_bill", "dolphin", "dragonfly", "electric_guitar", "elephant", "emu", "euphonium", "ewer", "ferry", "flamingo",
    "flamingo_head", "garfield", "gerenuk", "gramophone", "grand_piano", "hawksbill", "headphone", "hedgehog", "helicopter",
]  # fmt: skip
EXPERTS = ["a centered satellite photo of {}.", "a photo of a {}.", "a photo of the large {}.", "a photo of the small {}.",
           "a low resolution photo of the {}.", "a good photo of the {}."]  # fmt: skip


class Case:
    """A plan, its learned vectors, what is inserted into the layers, and whether gradients are asked for.

    later: as in ``build_plan``. insertions: function (width) -> Insertions, or None.
    """

    def __init__(self, name, names, programs, num_learned, train=True, copies=1, later=None, insertions=None):
        self.name, self.classes, self.train = name, len(names), train
        self.programs, self.num_learned, self.copies = programs, num_learned * copies, copies
        self.per_copy, self.later, self.new_insertions = num_learned, later, insertions
        self.insertions = NOTHING

    def build(self, width, device, dtype, padding_allowance):
        plan = build_plan(self.programs, padding_allowance, later=self.later).to(device)
        if self.new_insertions:
            made = self.new_insertions(width)
            made.modules().to(device, dtype)  # the modules themselves are moved
            rows = {layer: r.to(device, dtype).requires_grad_() for layer, r in made.rows.items()}
            self.insertions = replace(made, rows=rows)
        self.plan = plan.tile(self.copies, self.per_copy) if self.copies > 1 else plan
        self.learned = (torch.randn(self.num_learned, width, device=device, dtype=dtype) * 0.02).requires_grad_(self.train)
        shape = (self.plan.num_groups, self.plan.num_classes, width)
        self.direction = torch.randn(shape, device=device, dtype=dtype)

    def step(self, encode):
        """One step with ``encode(plan, learned)``: unit features, and the gradients of a random linear loss on them."""
        wanted = [self.learned, *self.insertions.rows.values(), *self.insertions.modules().parameters()]
        for tensor in wanted:
            tensor.grad = None
        with torch.set_grad_enabled(self.train):
            features = unit(encode(self.plan, self.learned, insertions=self.insertions))
            if not self.train:
                return (features,)
            (features * self.direction).sum().backward()
        return features.detach(), *(tensor.grad for tensor in wanted if tensor.grad is not None)


def make_cases(every=False):
    """The published settings of each method at 10 and at 50 classes; ``every``: also where prompts share less, and MoCoOp
    at 50 classes, whose published computation takes more than 10 GB."""
    cases = []
    for names in (EUROSAT, CALTECH_BASE):
        size = f"{len(names)} classes"
        words, random = [context_programs(names, 4)], [context_programs(names, 16)]
        cases += [
            Case(f"CoOp, 16 vectors, {size}, train", names, random, 16),
            Case(f"CoOp, 4 vectors, {size}, train", names, words, 4),
            Case(f"CoOp, 16 vectors, {size}, evaluation", names, random, 16, train=False),
            Case(f"KgCoOp, 4 vectors, {size}, train", names, words, 4),
            Case(f"CoCoOp, batch 1, {size}, train", names, words, 4),
            Case(f"CoCoOp, batch 4, {size}, evaluation", names, words, 4, train=False, copies=4),
            *inserted_cases(names, size),
        ]
        if every:
            for position in ("middle", "front"):
                programs = [context_programs(names, 16, position)]
                cases.append(Case(f"CoOp, 16 vectors, {position}, {size}, train", names, programs, 16))
            own = [context_programs(names, 16, "end", True)]
            cases.append(Case(f"CoOp, 16 vectors a class, {size}, train", names, own, 16 * len(names)))
        if len(names) > 10 and not every:
            continue
        cases += mocoop_cases(names, size)
    return cases


def mocoop_cases(names, size):
    """The paper's MoCoOp; rows of each expert in 9 layers; with a meta-net, the prompts of an expert that four images chose."""
    experts = EXPERTS if len(names) == 10 else EXPERTS[1:]
    lengths = [sum(map(len, soft_parts(template)[:2])) for template in experts]
    offsets, total = itertools.accumulate(lengths, initial=0), sum(lengths)
    programs = [template_programs(template, names, offset) for template, offset in zip(experts, offsets)]
    deep = lambda D: Insertions(rows={i: 0.02 * torch.randn(total, D) for i in range(1, 9)})  # noqa: E731
    name = f"MoCoOp, {len(experts)} experts, {{}}{size}, {{}}".format
    return [
        Case(name("", "train"), names, programs, total),
        Case(name("", "evaluation"), names, programs, total, train=False),
        Case(name("deep prompts in 9 layers, ", "train"), names, programs, total, insertions=deep),
        Case(f"MoCoOp, meta-net, one expert, 4 images, {size}, train", names, [template_programs(experts[1], names)],
             lengths[1], copies=4),
    ]  # fmt: skip


class Adapter(nn.Module):
    """D -> ``hidden`` -> D beside a block, as in MMA; without the step in between (LoRA) also on one projection."""

    def __init__(self, width, hidden, act=torch.relu, bias=True):
        super().__init__()
        self.down, self.up, self.act = nn.Linear(width, hidden, bias), nn.Linear(hidden, width, bias), act

    def forward(self, x):
        return self.up(self.act(self.down(x)))


def inserted_cases(names, size):
    """What methods put into the layers, at the published layers and sizes."""
    deep, hidden, rank, n = range(1, 9), 32, 2, 5
    two, four = context_programs(names, 2), context_programs(names, 4)
    own = [[0, *(learned(4 * c + k) for k in range(4)), *range(5, len(p))] for c, p in enumerate(four)]
    joined = [[0, *map(learned, range(n)), *range(1, len(p))] for p in four]
    rows = lambda layers, n: lambda D: Insertions(rows={i: 0.02 * torch.randn(n, D) for i in layers})  # noqa: E731
    beside = lambda D: {i: Adapter(D, hidden) for i in range(4, 12)}  # noqa: E731
    both = lambda D: replace(rows(deep, 2)(D), beside=beside(D))  # noqa: E731
    lora = lambda D: {i: {name: Adapter(D, rank, nn.Identity(), False) for name in "qkv"} for i in range(12)}  # noqa: E731
    return [
        Case(f"Deep prompts in 9 layers (MaPLe), {size}, train", names, [two], 2, insertions=rows(deep, 2)),
        Case(f"Adapters in 8 layers (MMA), {size}, train", names, [four], 4, insertions=lambda D: Insertions(beside=beside(D))),
        Case(f"Deep prompts and adapters, {size}, train", names, [two], 2, insertions=both),
        Case(f"LoRA in 12 layers, {size}, train", names, [four], 4, insertions=lambda D: Insertions(projections=lora(D))),
        Case(f"Rows of each class from layer 9 on (TCP), {size}, train", names, [four], 4, later={8: [own]},
             insertions=rows([8], 4 * len(names))),
        Case(f"Rows that join at layer 6 (MMRL), {size}, train", names, [four], 4, later={5: [joined]},
             insertions=rows(range(5, 12), n)),
    ]  # fmt: skip


def text_tower(width=512, layers=12, heads=8, device="cpu", dtype=torch.float32, architecture=""):
    """A text tower of the given size, or of an open_clip architecture, with random weights and CLIP's vocabulary.

    UserError: the architecture isn't known, or its text tower isn't CLIP's.
    """
    from open_clip import get_model_config
    from open_clip.model import CLIPTextCfg, _build_text_tower

    torch.manual_seed(0)
    settings, feature, quick = {"width": width, "layers": layers, "heads": heads}, width, True
    if architecture:
        config = get_model_config(architecture)
        if config is None or "hf_model_name" in config["text_cfg"]:
            raise UserError(f"--architecture {architecture}: open_clip has no text tower of its own of this name")
        settings = {**config["text_cfg"], "vocab_size": 49408, "pool_type": "argmax"}  # CLIP's tokens
        feature, quick = config["embed_dim"], config.get("quick_gelu", False)
    text = _build_text_tower(feature, CLIPTextCfg(**settings), quick_gelu=quick)
    return TextTower(text.requires_grad_(False).to(device, dtype).eval(), architecture or "this tower")


def measure(case, tower, repeats, device, clock=time.perf_counter):
    """{"classes", "speedup", "memory_ratio", "max_rel_err", ...} of one case; clock: as of ``median_times``."""
    fast, plain = tower, lambda plan, learned, insertions: encode_reference(tower, plan, learned, insertions)
    allowance = 512 if device == "cuda" else 0
    case.build(tower.width, device, tower.positional_embedding.dtype, allowance)
    ours, theirs = case.step(fast), case.step(plain)
    errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    with FlopCounterMode(display=False) as counter:
        case.step(fast)
    operations = counter.get_total_flops()
    seconds, plain_seconds = median_times([lambda: case.step(fast), lambda: case.step(plain)], repeats, device, clock)
    row = {"classes": case.classes, "train": case.train, "seconds": seconds, "plain_seconds": plain_seconds,
           "speedup": plain_seconds / seconds, "max_rel_err": max(errors), "tokens_per_second": case.plan.num_tokens / seconds,
           "tflops": operations / seconds / 1e12}  # fmt: skip
    case.copies, case.num_learned = 1, case.per_copy
    case.build(tower.width, device, tower.positional_embedding.dtype, allowance)
    vectors = case.learned.detach().requires_grad_()
    given = [*tower.parameters(), *case.insertions.modules().parameters()]
    kept, plain_kept = (kept_bytes(lambda f=f: f(case.plan, vectors, insertions=case.insertions), given) for f in (fast, plain))
    return {**row, "kept_mb": kept / 1e6, "plain_kept_mb": plain_kept / 1e6, "memory_ratio": plain_kept / kept}


def main():
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=3, help="measured calls of each computation; the median is reported")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--cpu-time", action="store_true", help="measure this process' CPU time: for a machine that does other work, too"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64", "float16", "bfloat16"))
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the device at this precision: shows the share reached")
    parser.add_argument(
        "--all",
        action="store_true",
        help="also other class positions, class-specific contexts, MoCoOp at 50 classes (more than 10 GB)",
    )
    parser.add_argument("--architecture", default="", help="of open_clip, e.g. ViT-L-14 (default: ViT-B/16's text dimensions)")
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tower = text_tower(device=args.device, dtype=getattr(torch, args.dtype), architecture=args.architecture)
    results, clock = {}, time.process_time if args.cpu_time else time.perf_counter
    for case in make_cases(args.all):
        if args.only in case.name:
            results[case.name] = r = measure(case, tower, args.repeats, args.device, clock)
            print(f"{case.name}: {r['speedup']:.1f} x faster", flush=True)
            if args.json:  # after every case
                write_json(results, args.json)
    print_table(results, args.peak_tflops)


def print_table(results, peak_tflops=0.0):
    """All cases; with the device's peak also the share of it that ours reaches."""
    headers = ["text side of one step", "published, ms", "ours, ms", "times faster", "times less kept", "largest rel. error",
               "ours, 1,000 tokens/s", "TFLOP/s"]  # fmt: skip
    rows = [[name, 1e3 * r["plain_seconds"], 1e3 * r["seconds"], r["speedup"], r["memory_ratio"], r["max_rel_err"],
             r["tokens_per_second"] / 1e3, r["tflops"]] for name, r in results.items()]  # fmt: skip
    if peak_tflops:
        headers.append("% of peak")
        rows = [[*row, 100 * row[-1] / peak_tflops] for row in rows]
    print(tabulate(rows, headers, floatfmt=("", ".1f", ".1f", ".1f", ".1f", ".1e", ".2f", ".3f", ".1f")))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
