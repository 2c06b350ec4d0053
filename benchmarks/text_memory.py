"""Memory of the text side in training at ImageNet's size, with and without checkpointing.

    python benchmarks/text_memory.py --classes 1000 --experts 20 --checkpointing --json text_memory.json

One forward and backward pass of MoCoOp's prompts (every expert with every class) through a text tower of ViT-B/16's dimensions,
random weights. Activations are what is in use beyond weights, plan and learned vectors: on a GPU PyTorch's own count, on a CPU
the process' resident memory at its highest, its libraries' scratch space included.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script
from benchmarks.end_to_end import peak_mb
from benchmarks.text_tower import CALTECH_BASE, text_tower
from prompting import build_plan, soft_parts, template_programs, unit
from prompting.templates import read_groups

PROJECT = Path(__file__).resolve().parents[1]


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
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=1000, help="at most 1000 (the default)")
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument("--templates", default=PROJECT / "templates" / "imagenet.txt", help="default: templates/imagenet.txt")
    parser.add_argument("--checkpointing", action="store_true", help="as TRAINER.CHECKPOINTING True")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    tower = text_tower(device=args.device, dtype=getattr(torch, args.dtype))
    plan, rows = build(args.classes, args.experts, args.templates, 512 if args.device == "cuda" else 0)
    plan = plan.to(args.device)
    learned = (torch.randn(rows, tower.width, device=args.device, dtype=tower.positional_embedding.dtype) * 0.02).requires_grad_()

    def step():
        unit(tower(plan, learned, args.checkpointing)).square().sum().backward()

    start = time.perf_counter()
    peak = peak_mb(step, args.device)
    seconds = time.perf_counter() - start
    plain = 77 * plan.num_groups * plan.num_classes
    result = {"classes": args.classes, "experts": args.experts, "checkpointing": args.checkpointing, "tokens": plan.num_tokens,
              "plain_tokens": plain, "peak_gb": peak / 1e3, "seconds": seconds}  # fmt: skip
    print(f"{args.classes:,} classes x {args.experts} experts: {plan.num_tokens:,} token positions (published: {plain:,}), "
          f"activations at their highest {peak / 1e3:.2f} GB, one step {seconds:.0f} s")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
    return result


if __name__ == "__main__":
    main()
