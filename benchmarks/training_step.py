"""A whole training step beside CLIP's image encoder alone: what a method adds to what no method can avoid.

    python benchmarks/training_step.py --classes 50 --threads 1 --parts --json training_step.json

The trainers' own step (image encoding, prompts, loss, gradients, optimiser) with the published recipe's batch size, on images
of noise in memory, all methods with one CLIP of ViT-B/16's shapes and random weights. The ratio is of medians of calls that
take turns with the image encoder's. --parts: seconds of a step's parts, in steps of their own.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from tabulate import tabulate

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from basics import home, program, write_json
from basics.program import Parser
from benchmarks.inference_time import Method, random_clip
from benchmarks.measure import median_times

METHODS = ("CoOp", "KgCoOp", "ProGrad", "MoCoOp", "CoCoOp")
PARTS = {  # a trainer's function, which each step calls once
    "batch_features": "image encoder",
    "loss": "text encoder forward, logits, loss",
    "backward_and_update": "backward",
    "step": "optimiser",
}


def parts_of(trainer, batch, repeats, device):
    """{part: median seconds of it in a step}; "rest" is what a step does outside of them."""
    synchronise = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    spent = {}

    def timed(name, function):
        def call(*args, **kwargs):
            synchronise()
            start = time.perf_counter()
            result = function(*args, **kwargs)
            synchronise()
            spent[name] = time.perf_counter() - start
            return result

        return call

    steps, step = [], timed("whole", trainer.forward_backward)
    for name in PARTS:
        setattr(trainer, name, timed(name, getattr(trainer, name)))
    for _ in range(repeats):
        step(batch)
        steps.append(dict(spent))
    for name in PARTS:
        delattr(trainer, name)
    for each in steps:
        each["rest"] = each.pop("whole") - each["batch_features"] - each["loss"] - each["backward_and_update"]
        each["backward_and_update"] -= each["step"]
    found = {name: statistics.median(each[name] for each in steps) for name in steps[0]}
    return {**{part: found[name] for name, part in PARTS.items()}, "rest": found["rest"]}


def measure(clip, name, num_classes, args):
    """{"batch", "seconds", "encoder_seconds", "ratio"} of one method, with --parts "parts", too."""
    method = Method(name, clip, num_classes, args.templates)
    trainer = method.trainer
    size = args.batch_size or trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    device = clip.text.positional_embedding.device
    images = torch.randn(size, 3, clip.image_size, clip.image_size, device=device)
    batch = {"img": images, "label": torch.arange(size) % num_classes, "domain": torch.zeros(size, dtype=torch.long)}
    trainer.set_model_mode("train")
    trainer.batch_idx, trainer.num_batches = 0, 10**9  # within an epoch

    @torch.no_grad()
    def encode():
        clip.encode_image(images)

    encoder, seconds = median_times([encode, lambda: trainer.forward_backward(batch)], args.repeats, device)
    found = {"classes": num_classes, "batch": size, "seconds": seconds, "encoder_seconds": encoder, "ratio": seconds / encoder}
    return {**found, "parts": parts_of(trainer, batch, args.repeats, device)} if args.parts else found


def main(argv=None):
    """Run one command line; prints the table and returns {case: row}."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["CoOp"], choices=METHODS, help="default: CoOp")
    parser.add_argument("--classes", type=int, nargs="+", default=[50], help="numbers of classes (default 50)")
    parser.add_argument("--batch-size", type=int, default=0, help="images a step (default: the published recipe's)")
    parser.add_argument(
        "--templates",
        default=home.PROJECT / "templates" / "eurosat.txt",
        help="MoCoOp's group file (default: templates/eurosat.txt, 6 experts)",
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="of CLIP (default fp32)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=5, help="measured calls; medians are reported")
    parser.add_argument("--parts", action="store_true", help="also the seconds of a step's parts")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    clip = random_clip(args.device, args.precision)
    results = {f"{name}, {c} classes": measure(clip, name, c, args) for name in args.methods for c in args.classes}
    rows = [[case, r["batch"], r["encoder_seconds"], r["seconds"], r["ratio"]] for case, r in results.items()]
    headers = ["training step", "images", "image encoder alone, s", "whole step, s", "ratio"]
    print(tabulate(rows, headers, floatfmt=("", "", ".3f", ".3f", ".3f")))
    for case, result in results.items() if args.parts else ():
        share = [[part, seconds, 100 * seconds / result["seconds"]] for part, seconds in result["parts"].items()]
        print("\n" + tabulate(share, [case, "s", "% of a step"], floatfmt=("", ".3f", ".1f")))
    if args.json:
        write_json(results, args.json)
    return results


if __name__ == "__main__":
    sys.exit(program.as_process(main))
