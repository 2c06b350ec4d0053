"""Whole training steps and evaluations of a method, data loading and image encoder included, against the plain way.

    python benchmarks/end_to_end.py --threads 1 --json end_to_end.json

Three ways of the same computation, by the trainers themselves, taking turns:

- plain: every prompt through all 77 positions (``prompting.reference``), learned prompts again for every test batch
  (CoCoOp's: image by image), images loaded and encoded by every run, by open_clip's own encoder;
- first: this project's text tower, text once an evaluation; images loaded and encoded;
- later: the same with image features from the cache, filled by another method or ablation (--cache-features).

Times are those of the built-in model on images of noise (speed doesn't depend on them), ratios are of medians. An epoch
is one of 16 shots; an evaluation has --images images, over which what is done once is spread. Memory is the highest use
during a training step beyond what was in use before it. ``imagenet`` is ImageNet's shape scaled down to 1/25 of its
prompts (200 classes, 4 experts), so that the plain way fits a laptop.
"""

import contextlib
import ctypes
import gc
import io
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tabulate import tabulate

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import datasets  # noqa: F401  (registers)
import trainers
from basics import home, program, write_json
from basics.program import Parser
from benchmarks.measure import as_open_clip_builds_them, give_all_words_values, median_times
from benchmarks.text_tower import CALTECH_BASE, EUROSAT
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from prompting import unit
from prompting.insertions import NOTHING
from prompting.reference import encode_reference

METHODS = ["ZeroshotCLIP", "LinearProbe", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MoCoOp"]
OTHERS = ["TipAdapterF", "ADAPTER", "CLIP_Adapter", "TaskRes", "TCP", "ExtrasLinearProbeCoOp", "ExtrasLinearProbeKgCoOp",
          "CoOp_ATP", "CLIPLoRA", "TwoSFS", "IVLP", "VPT", "MaPLe", "PromptSRC", "MultiModalAdapter", "MMRL"]  # fmt: skip
WAYS = ("plain", "first", "later")
UNTRAINED = ("ZeroshotCLIP", "LinearProbe")  # nothing to learn; not learned in steps
SHOTS = 16
BUILTIN_MODELS = ("builtin", "builtin_vit")


@dataclass
class Size:
    """Classes, MoCoOp's group file (its groups are the experts), and the methods that are measured."""

    classes: int
    templates: str
    methods: list

    @property
    def classnames(self):
        if self.classes == 10:
            return EUROSAT
        names = [f"{word} {name}".strip() for word in ("", "small", "old", "red") for name in CALTECH_BASE]
        return names[: self.classes]


SIZES = {
    "small": Size(10, "eurosat", METHODS + OTHERS),  # 6 experts
    "middle": Size(100, "caltech101", METHODS),  # 5 experts
    "imagenet": Size(200, "food101", ["CoOp", "MoCoOp"]),  # 4 experts: 1/25 of 1,000 classes x 20 experts
}


def write_images(root, size, per_class):
    """An ImageFolder with images of noise, as photographs are stored."""
    rng = np.random.default_rng(0)
    for part, count in (("train", per_class), ("test", per_class)):
        for name in size.classnames:
            folder = root / "noise" / part / name.replace(" ", "_")
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((320, 240), Image.BICUBIC).save(folder / f"{i}.jpg")


def write_model(source, target):
    """A built-in model as one that has met every word, in a folder of its own: the values of words don't matter here."""
    target.mkdir()
    shutil.copyfile(source / "open_clip_config.json", target / "open_clip_config.json")
    state = load_file(source / "open_clip_model.safetensors")
    give_all_words_values(state["token_embedding.weight"])
    save_file(state, target / "open_clip_model.safetensors")


class Way:
    """A trainer that computes in one of the three ways.

    Args:
        way: one of WAYS.
        method: registered trainer.
        root: data folder with the images and the model.
        size: Size.
        device: cpu or cuda.
    """

    def __init__(self, way, method, root, size, device):
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        cfg.merge_from_file(str(home.PROJECT / "configs" / "trainers" / method / "builtin.yaml"))
        cfg.merge_from_list([
            "TRAINER.NAME", method, "DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "noise", "DATASET.ROOT", str(root),
            "MODEL.BACKBONE.NAME", str(root / Path(cfg.MODEL.BACKBONE.NAME).name),
            "USE_CUDA", device == "cuda", "SEED", 1, "VERBOSE", False, "OUTPUT_DIR", str(root / "run"),
            "TRAINER.MOCOOP.TEMPLATES", str(home.PROJECT / "templates" / f"{size.templates}.txt"),
            "TRAINER.FEATURE_CACHE", ".features" if way == "later" else "", "TRAINER.CACHE_VIEWS", way == "later",
            "DATALOADER.TEST.BATCH_SIZE", 4 if method == "CoCoOp" else 100,
        ])  # fmt: skip
        plainly = as_open_clip_builds_them() if way == "plain" else contextlib.nullcontext()
        with contextlib.redirect_stdout(io.StringIO()), plainly:
            self.trainer = t = TRAINER_REGISTRY.get(method)(cfg)
        self.way, self.method = way, method
        self.images = 0  # that ``evaluate`` went through
        if way == "plain":
            t.clip.encode_text = self.encode_plainly
        t.batch_idx, t.num_batches = 0, 10**9  # within an epoch
        self.train_batches = self.endless(t.train_loader_x, views=True)
        self.test_batches = self.endless(t.test_loader)

    def encode_plainly(self, plan, learned=None, checkpointing=False, raw=False, insertions=NOTHING):
        """CLIP.encode_text by the published computation."""
        features = encode_reference(self.trainer.clip.text, plan, learned, insertions)
        return features if raw else unit(features)

    def endless(self, loader, views=False):
        while True:
            with contextlib.redirect_stdout(io.StringIO()):
                batches = iter(self.trainer.image_features.batches(loader, views))
                first = next(batches)  # with features from the cache: reads and verifies the entry
            yield first
            yield from batches

    def step(self):
        """A training step."""
        self.trainer.set_model_mode("train")
        self.trainer.forward_backward(next(self.train_batches))

    @torch.no_grad()
    def once(self):
        """What is done once an evaluation; plainly, nothing."""
        self.trainer.set_model_mode("eval")
        if self.way != "plain":
            self.trainer._prepared = self.trainer.prepare()

    @torch.no_grad()
    def evaluate(self):
        """One test batch."""
        images, _ = self.trainer.parse_batch_test(next(self.test_batches))
        plainly = self.way == "plain" and self.method not in UNTRAINED
        for part in images.split(1 if plainly and self.method == "CoCoOp" else len(images)):
            if plainly:
                self.trainer._prepared = None  # learned prompts are encoded anew
            self.trainer.model_inference(part)
        self.images = len(images)


def peak_mb(function, device):
    """Highest memory use while ``function`` runs beyond that before it, in MB; None where it can't be told."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # on a CPU: resident memory
    status = Path("/proc/self/status")
    kilobytes = lambda key: int(status.read_text().split(f"{key}:")[1].split()[0])  # noqa: E731
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # glibc: what was freed goes back
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the peak
        before = kilobytes("VmRSS")
        function()
        return max(kilobytes("VmHWM") - before, 0) * 1.024e-3
    except (OSError, IndexError, AttributeError):
        return None


def measure(method, root, size, args):
    """{"step", "epoch", "image": {way: seconds}, "memory_mb": {way: MB}, "times_faster": {...}} of one method."""
    ways = [Way(way, method, root, size, args.device) for way in WAYS]
    timed = lambda functions: dict(zip(WAYS, median_times(functions, args.repeats, args.device)))  # noqa: E731
    once = timed([w.once for w in ways])
    batch = timed([w.evaluate for w in ways])
    row = {"image": {w.way: batch[w.way] / w.images + once[w.way] / args.images for w in ways}}
    if method not in UNTRAINED:
        row["step"] = timed([w.step for w in ways])
        batch_size = ways[0].trainer.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        row["epoch"] = {way: t * max(1, SHOTS * size.classes // batch_size) for way, t in row["step"].items()}
        row["memory_mb"] = {w.way: peak_mb(w.step, args.device) for w in ways}
    parts = [part for part in ("step", "image") if part in row]
    row["times_faster"] = {f"{p}, {way}": row[p]["plain"] / row[p][way] for p in parts for way in WAYS[1:]}
    return row


def main(argv=None):
    """Run one command line; prints the tables and returns {size: {method: row}}."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES), help="default: %(default)s")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS + OTHERS, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=1000, help="images of an evaluation (default 1000)")
    parser.add_argument("--repeats", type=int, default=3, help="measured calls; medians are reported")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    results = {}
    for name in args.sizes:
        size, results[name] = SIZES[name], {}
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), size, per_class=max(1, 40 // size.classes))
            for model in BUILTIN_MODELS:
                write_model(home.PROJECT / "models" / model, Path(folder) / model)
            for method in (m for m in size.methods if m in args.methods):
                results[name][method] = measure(method, Path(folder), size, args)
        print_table(name, size, results[name])
    if args.json:
        write_json(results, args.json)
    return results


def print_table(name, size, rows):
    """One size: milliseconds plainly, and how many times faster each way is."""
    headers = ["method", "step ms\nplain", "first", "later", "x first", "x later", "epoch s\nplain", "later",
               "MB\nplain", "first", "image ms\nplain", "first", "later", "x first", "x later"]  # fmt: skip
    table = []
    for method, row in rows.items():
        cells = [method]
        if "step" in row:
            s, e, m = row["step"], row["epoch"], row["memory_mb"]
            cells += [1e3 * s[w] for w in WAYS] + [s["plain"] / s["first"], s["plain"] / s["later"]]
            cells += [e["plain"], e["later"], m["plain"], m["first"]]
        else:
            cells += [None] * 9
        i = row["image"]
        table.append(cells + [1e3 * i[w] for w in WAYS] + [i["plain"] / i["first"], i["plain"] / i["later"]])
    print(f"\n{name}: {size.classes} classes, groups of templates/{size.templates}.txt; x: times faster than plain\n")
    print(tabulate(table, headers, floatfmt=".3g", missingval="-"), flush=True)


if __name__ == "__main__":
    sys.exit(program.as_process(main))
