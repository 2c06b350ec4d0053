"""Memory of the text side in training at ImageNet's size, with and without checkpointing.

    python benchmarks/text_memory.py --classes 1000 --experts 20 --checkpointing            # counted, in seconds
    python benchmarks/text_memory.py --classes 1000 --experts 20 --checkpointing --measure  # and run

One forward and backward pass of MoCoOp's prompts (every expert with every class) through a text tower of ViT-B/16's dimensions,
random weights. Activations are all tensors but weights, plan and learned vectors; they are counted on PyTorch's meta device,
where nothing is computed, after the forward pass and at their highest, and so are matrix products. --measure runs the step and
reports the use of memory (on a GPU PyTorch's own count, on a CPU the process' resident memory, its libraries' scratch space
included), and how fast the step is beside a large matrix product, measured before and after it.
"""

import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from basics import home, program, write_json
from basics.program import Parser
from benchmarks.end_to_end import peak_mb
from benchmarks.measure import LiveBytes, matmul_rate
from benchmarks.text_tower import CALTECH_BASE, text_tower
from prompting import build_plan, soft_parts, template_programs, unit
from prompting.templates import read_groups


def invented_names(count):
    """Class names of one to four words, at most 1,000."""
    words = ["", "small", "old", "red", "wooden", "sea", "great white", "black and gold", "northern", "electric",
             "mountain", "house", "garden", "dwarf", "giant", "common", "royal", "desert", "river", "night"]  # fmt: skip
    return [f"{word} {name}".strip() for word in words for name in CALTECH_BASE][:count]


def build(num_classes, num_experts, templates, padding_allowance=0):
    """(plan, number of learned vectors) of all classes with the first templates of a group file."""
    names = invented_names(num_classes)
    firsts = [group.templates[0] for group in read_groups(templates)]
    programs, offset = [], 0
    for e in range(num_experts):
        template = firsts[e % len(firsts)]
        programs.append(template_programs(template, names, offset))
        offset += sum(map(len, soft_parts(template)[:2]))
    return build_plan(programs, padding_allowance), offset


def main(argv=None):
    """Run one command line; prints the figures and returns them."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=1000, help="at most 1000 (the default)")
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument(
        "--templates", default=home.PROJECT / "templates" / "imagenet.txt", help="default: templates/imagenet.txt"
    )
    parser.add_argument("--checkpointing", action="store_true", help="as TRAINER.CHECKPOINTING True")
    parser.add_argument("--measure", action="store_true", help="also run the step (minutes on a CPU)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of --measure")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    if not 1 <= args.classes <= 1000 or args.experts < 1:
        parser.error("--classes takes 1 to 1000, --experts 1 or more")
    torch.set_num_threads(args.threads)
    plan, rows = build(args.classes, args.experts, args.templates, 512 if args.device == "cuda" else 0)
    plain = 77 * plan.num_groups * plan.num_classes
    after_forward, highest, operations = count(plan, rows, args)
    print(
        f"{args.classes:,} classes x {args.experts} experts: {plan.num_tokens:,} token positions (published: {plain:,}); "
        f"activations {after_forward / 1e9:.2f} GB after the forward pass, at most {highest / 1e9:.2f} GB; "
        f"{operations / 1e12:.2f} TFLOP of matrix products",
        flush=True,
    )
    result = {"classes": args.classes, "experts": args.experts, "checkpointing": args.checkpointing, "tokens": plan.num_tokens,
              "plain_tokens": plain, "after_forward_gb": after_forward / 1e9, "highest_gb": highest / 1e9,
              "tflop": operations / 1e12}  # fmt: skip
    if args.measure:
        rate = lambda: matmul_rate(args.device, getattr(torch, args.dtype))  # noqa: E731
        before = rate()
        result["measured_gb"], result["seconds"] = run(plan, rows, args)
        result["peak_tflops"] = (before + rate()) / 2e12
        result["reached"] = operations / result["seconds"] / 1e12 / result["peak_tflops"]
        memory = "unknown" if result["measured_gb"] is None else f"{result['measured_gb']:.2f} GB"
        print(
            f"measured: {memory}, one step {result['seconds']:.1f} s: {100 * result['reached']:.0f} % of the speed of a large "
            f"matrix product, {1e3 * result['peak_tflops']:.0f} GFLOPS"
        )
    if args.json:
        write_json(result, args.json)
    return result


def prepare(plan, rows, args, device):
    """(tower, plan, learned vectors) on a device."""
    tower = text_tower(dtype=getattr(torch, args.dtype)).to(device)
    learned = (torch.randn(rows, tower.width, dtype=tower.positional_embedding.dtype) * 0.02).to(device).requires_grad_()
    return tower, plan.to(device), learned


def count(plan, rows, args):
    """Bytes of activations after the forward pass, and at their highest; floating-point operations of matrix products."""
    tower, plan, learned = prepare(plan, rows, args, "meta")
    with LiveBytes([*tower.parameters(), learned]) as live:
        features = tower(plan, learned, args.checkpointing)
        after_forward = live.now
        unit(features).square().sum().backward()
    with FlopCounterMode(display=False) as arithmetic:  # in a pass of its own: it computes some operations from others
        unit(tower(plan, learned, args.checkpointing)).square().sum().backward()
    return after_forward, live.highest, arithmetic.get_total_flops()


def run(plan, rows, args):
    """(GB in use at most beyond what was before, None where it can't be told; seconds) of one step."""
    tower, plan, learned = prepare(plan, rows, args, args.device)
    start = time.perf_counter()
    peak = peak_mb(lambda: unit(tower(plan, learned, args.checkpointing)).square().sum().backward(), args.device)
    return None if peak is None else peak / 1e3, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(program.as_process(main))
