"""CLIP's ResNets with their convolutions' channels first, as in their files, and last.

    python -m benchmarks.image_layout --threads 1
    python -m benchmarks.image_layout --device cuda --precision fp16

The built-in model and RN50's shapes with random weights (speed doesn't depend on their values); images of noise, without
gradients. On a CPU this project lays them out with the channels last (``prompting.image_tower.lay_out``).
"""

import copy

import torch
from tabulate import tabulate

from basics import program, write_json
from basics.program import Parser
from benchmarks.inference_time import random_clip
from benchmarks.measure import median_times, relative_error
from prompting import load_clip


@torch.no_grad()
def measure(clip, batch_size, repeats):
    """{"first", "last": milliseconds an image; "ratio"; "error": largest difference of features, relative to the largest}."""
    device = clip.text.positional_embedding.device
    images = torch.randn(batch_size, 3, clip.image_size, clip.image_size, device=device)
    clips = {}
    for name, layout in (("first", torch.contiguous_format), ("last", torch.channels_last)):
        clips[name] = copy.deepcopy(clip)
        clips[name].visual.to(memory_format=layout)
    first, last = median_times([lambda c=c: c.encode_image(images) for c in clips.values()], repeats, device)
    error = relative_error(clips["last"].encode_image(images), clips["first"].encode_image(images))
    return {"first": 1e3 * first / batch_size, "last": 1e3 * last / batch_size, "ratio": first / last, "error": error}


def main(argv=None):
    """Run one command line; prints the table and returns {model: row}."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["models/builtin", "RN50"], choices=["models/builtin", "RN50"])
    parser.add_argument("--batch-size", type=int, default=32, help="images a call (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="measured calls of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="of the frozen weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", help="write the numbers to this file")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    load = {
        "models/builtin": lambda: load_clip("models/builtin", precision=args.precision, device=args.device),
        "RN50": lambda: random_clip(args.device, args.precision, "RN50"),
    }
    found = {name: measure(load[name](), args.batch_size, args.repeats) for name in args.models}
    heads = ["", "channels first, ms an image", "last", "times less", "relative difference"]
    rows = [[name, *row.values()] for name, row in found.items()]
    print(tabulate(rows, heads, floatfmt=("", ".2f", ".2f", ".2f", ".1e")))
    if args.json:
        write_json(found, args.json)
    return found


if __name__ == "__main__":
    program.run(main)
