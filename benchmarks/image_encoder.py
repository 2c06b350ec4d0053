"""CLIP's image encoders as open_clip builds them, and as this project has them.

    python -m benchmarks.image_encoder --threads 1
    python -m benchmarks.image_encoder --device cuda --precision fp16

ResNets are rearranged (``prompting.resnet``): attention pooling for one query, and on a CPU folded batch norms and convolutions
with their channels last, which changes last bits. QuickGELU, in OpenAI's ViTs, makes one new tensor in place of three
(``prompting.activations``), which changes none. Weights are random but for the built-in model's (speed doesn't depend on their
values); images are noise; no gradients.
"""

import copy
import logging

import torch
from tabulate import tabulate

from basics import home, program, write_json
from basics.program import Parser
from benchmarks.measure import as_open_clip_builds_them, median_times, relative_error
from prompting import CLIP, OPENAI_NAMES

MODELS = ("models/builtin", "RN50", "ViT-B/16")


def encoders(name, precision, device):
    """(CLIP with open_clip's image encoder, CLIP with ours): the same weights."""
    import open_clip

    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip warns that no weights were loaded
    try:
        model = open_clip.create_model(OPENAI_NAMES.get(name) or f"local-dir:{home.PROJECT / name}")
    finally:
        logging.disable(logging.NOTSET)
    with as_open_clip_builds_them():
        plain = CLIP(copy.deepcopy(model), name, precision, device)
    return plain, CLIP(model, name, precision, device)


@torch.no_grad()
def measure(name, args):
    """{"plain", "ours": milliseconds an image; "ratio"; "error": largest difference of features, relative to the largest}."""
    plain, ours = encoders(name, args.precision, args.device)
    images = torch.randn(args.batch_size, 3, ours.image_size, ours.image_size, device=args.device)
    calls = [lambda clip=clip: clip.encode_image(images) for clip in (plain, ours)]
    seconds = median_times(calls, args.repeats, args.device)
    error = relative_error(calls[1](), calls[0]())
    first, last = (1e3 * s / args.batch_size for s in seconds)
    return {"plain": first, "ours": last, "ratio": first / last, "error": error}


def main(argv=None):
    """Run one command line; prints the table and returns {model: row}."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, help="default: all")
    parser.add_argument("--batch-size", type=int, default=32, help="images a call (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="measured calls of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="of the frozen weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", help="write the numbers to this file")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    found = {name: measure(name, args) for name in args.models}
    heads = ["", "open_clip's, ms an image", "ours", "times less", "relative difference"]
    rows = [[name, *row.values()] for name, row in found.items()]
    print(tabulate(rows, heads, floatfmt=("", ".2f", ".2f", ".2f", ".1e")))
    if args.json:
        write_json(found, args.json)
    return found


if __name__ == "__main__":
    program.run(main)
