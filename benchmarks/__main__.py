"""All benchmarks, one after the other, and what they print on one page.

    python -m benchmarks                                  # hours; the page is build/benchmarks.md
    python -m benchmarks --quick                          # minutes, at small sizes: that everything runs, not what it reaches
    python -m benchmarks --device cuda --peak-tflops 989  # what is about a GPU, in fp16 and bf16; the peak is the card's

The page has the machine, the versions, and for each script its command, its seconds and what it printed; it is written after
each of them. One that fails stands there with what it said, the others go on, and the exit status is 1.
"""

import os
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from basics import home, program
from basics.files import write_text
from basics.program import Parser
from reproduce.processes import Background, available_cores, python

HALVES = {"float16": "fp16", "bfloat16": "bf16"}  # a precision, as --dtype and as --precision


@dataclass(frozen=True)
class Benchmark:
    """A script: what it is about, its words, those that make it quick instead, and those for a GPU.

    gpu: "" where it has nothing to do with one. {dtype}, {precision} stand for each half precision, {peak} for --peak-tflops.
    """

    script: str
    about: str
    words: str
    quick: str
    gpu: str = ""


BENCHMARKS = (
    Benchmark(
        "text_tower",
        "The text side of a step",
        "--threads 1",
        "--threads 1 --repeats 1 --only 'CoOp, 4 vectors, 10 classes'",
        "--dtype {dtype} --all --peak-tflops {peak} --device cuda",
    ),
    Benchmark(
        "training_step",
        "A whole training step beside the image encoder alone",
        "--classes 50 --threads 1 --parts",
        "--classes 5 --batch-size 2 --repeats 1 --threads 1 --parts",
        "--classes 50 1000 --precision {precision} --device cuda --parts",
    ),
    Benchmark(
        "text_memory",
        "Memory at ImageNet's size",
        "--checkpointing",
        "--classes 20 --experts 2",
        "--checkpointing --measure --dtype {dtype} --device cuda",
    ),
    Benchmark(
        "text_turns",
        "MoCoOp's text loss on some experts in turn",
        "--backbone local-dir:models/builtin --classes 1000",
        "--backbone local-dir:models/builtin --classes 10 --experts 4 --take 2 --chosen 2 --repeats 1",
    ),
    Benchmark(
        "inference_time",
        "Evaluation, time and text work an image",
        "--threads 1",
        "--classes 5 --images 8 --batch-sizes 4 --repeats 1 --backbone models/builtin",
        "--precision {precision} --device cuda",
    ),
    Benchmark(
        "end_to_end",
        "Whole steps and evaluations, with and without the cache of image features",
        "--threads 1",
        "--sizes small --methods CoOp --images 20 --repeats 1",
        "--device cuda",
    ),
    Benchmark(
        "image_encoder",
        "CLIP's image encoders as open_clip builds them and as here",
        "--threads 1",
        "--models models/builtin --batch-size 2 --repeats 1",
        "--precision {precision} --device cuda",
    ),
    Benchmark("loading", "Augmented views, one by one and batch by batch", "", "--repeats 1"),
    Benchmark("starts", "What starting a run costs", "", "--calls 1"),
    Benchmark(
        "grid",
        "A table's grid, every run plainly and as --run makes it",
        "",
        "--datasets digits --methods CoOp --set OPTIM.MAX_EPOCH 1",
    ),
    Benchmark("growth", "How cost grows with classes, experts and images", "", "--quick --repeats 1"),
    Benchmark("cost_model", "A table's whole grid: counted arithmetic", "", "--datasets eurosat --seeds 1"),
)


def calls(args):
    """[(Benchmark, words of one call)] of what was asked for."""
    chosen = [b for b in BENCHMARKS if not args.only or b.script in args.only]
    if args.device == "cpu":
        return [(b, b.quick if args.quick else b.words) for b in chosen]
    found = []
    for b in chosen:
        for dtype, precision in HALVES.items():
            words = b.gpu.format(dtype=dtype, precision=precision, peak=args.peak_tflops)
            found += [(b, words)] if words and (b, words) not in found else []
    return found


def machine(device):
    """Lines that say on what was measured."""
    import torch

    from dassl.engine.provenance import code_version

    cpu = Path("/proc/cpuinfo")
    names = cpu.read_text().split("model name") if cpu.exists() else []
    name = names[1].partition(":")[2].split("\n")[0].strip() if len(names) > 1 else platform.machine()
    said = code_version()
    found = [
        f"CPU: {name}, {available_cores()} cores for this process; load average at the start {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, commit {said['commit'] or 'unknown'}"
        + (" with changes" if said["modified"] else ""),
    ]
    if device == "cuda":
        return [f"GPU: {torch.cuda.get_device_name()}", *found]
    return [*found, "No GPU was used; `--device cuda` measures one"]


def page(lines, args, sections):
    """The page's text. sections: [(Benchmark, command, seconds, exit status, output)]."""
    kind = "small sizes, to see that everything runs" if args.quick else "ratios are medians of calls that take turns"
    text = ["# Benchmarks", "", f"Made by `{args.command}`; {kind}.", "", *(f"- {line}" for line in lines), ""]
    for benchmark, command, seconds, status, output in sections:
        failed = f" **It failed, exit status {status}.**" if status else ""
        text += [f"## {benchmark.about}", "", f"`{command}`, {seconds:.0f} s.{failed}", "", "```", output.strip(), "```", ""]
    return "\n".join(text)


def main(argv=None):
    """Run one command line; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    scripts = [b.script for b in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=scripts, metavar="SCRIPT", help=f"of {', '.join(scripts)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the GPU in half precision: shows the share reached")
    parser.add_argument("--out", type=Path, default=home.PROJECT / "build" / "benchmarks.md", help="default: build/benchmarks.md")
    args = parser.parse_args(argv)
    if args.quick and args.device == "cuda":
        parser.error("--quick is for the CPU")
    args.command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)])
    todo = calls(args)
    if not todo:
        parser.error("none of these has anything to do with a GPU")
    lines, sections, starter = machine(args.device), [], Background(dict(os.environ), home.PROJECT)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for benchmark, words in todo:
        module, start = f"benchmarks.{benchmark.script}", time.monotonic()
        print(f"{benchmark.script} {words}".strip(), flush=True)
        status, output = starter.run([*python(module), *shlex.split(words)])
        sections.append((benchmark, f"python -m {module} {words}".strip(), time.monotonic() - start, status, output))
        print(f"  {'done' if not status else f'failed, exit status {status}'}, {sections[-1][2]:.0f} s", flush=True)
        write_text(page(lines, args, sections), args.out)
    print(f"{args.out}: {len(sections)} calls, {sum(bool(s[3]) for s in sections)} failed")
    return int(any(s[3] for s in sections))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
