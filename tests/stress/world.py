"""A run that takes under a second, in a process of its own: tiny images, a tiny CLIP, the real train.py.

Processes are forked from one that has imported everything and computed nothing, so that hundreds of runs take minutes.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

from basics.files import PART_SUFFIX

PROJECT = Path(__file__).parents[2]
CLASSES = ("apple", "bell", "cat_flap", "dog", "electric_fan")
EPOCHS = 4
MESSAGES = []  # (what happened, what was said), for docs/reliability.md
# name: (trainer, configuration file, options, KEY VALUE pairs)
METHODS = {
    "ZeroshotCLIP": ("ZeroshotCLIP", "vit_b16", (), ()),
    "LinearProbe": ("LinearProbe", "vit_b16", (), ()),
    "CoOp": ("CoOp", "vit_b16_ctxv1", (), ()),
    "CoOp, best by validation": ("CoOp", "vit_b16_ctxv1", (), ("TEST.FINAL_MODEL", "best_val")),
    "CoOp, cached views": ("CoOp", "vit_b16_ctxv1", ("--cache-features",), ()),
    "CoOp, loading workers": ("CoOp", "vit_b16_ctxv1", (), ("DATALOADER.NUM_WORKERS", "2")),
    "CoCoOp": ("CoCoOp", "vit_b16_c4_ep10_batch1_ctxv1", (), ()),
    "KgCoOp": ("KgCoOp", "vit_b16_ep100_ctxv1", (), ()),
    "ProGrad": ("ProGrad", "vit_b16_ep100", (), ()),
    "MoCoOp": ("MoCoOp", "vit_b16", (), ()),
    "MoCoOp, released recipe": ("MoCoOp", "vit_b16_ep50_released", (), ("OPTIM.WARMUP_EPOCH", "1")),
}


def make_data(root):
    """A data folder: `mine`, 5 classes with 4 training, 2 validation and 2 test images of one colour each; weights."""
    import torch
    from PIL import Image

    from tests.golden.tiny_clip import state_dict

    for c, name in enumerate(CLASSES):
        for split, count in (("train", 4), ("val", 2), ("test", 2)):
            folder = root / "mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (50 * c, 255 - 50 * c, 30 * i)).save(folder / f"{split}{i}.png")
    torch.save(state_dict("tiny_clip_vit"), root / "tiny.pt")
    return root


def copy_data(source, target):
    """A copy without caches; the copies share the images' and weights' bytes."""
    shutil.copytree(source, target, copy_function=os.link, ignore=shutil.ignore_patterns(".features", "split_fewshot"))
    return target


def set_threads(number):
    """In a run's process: the number of threads that it computes with."""
    import torch

    torch.set_num_threads(number)


def section_of(method):
    """The section of cfg.TRAINER that the method of METHODS reads."""
    import trainers  # noqa: F401  (registers)
    from dassl.engine import TRAINER_REGISTRY

    return TRAINER_REGISTRY.get(METHODS.get(method, (method,))[0]).section


def command(method, data, out, *pairs):
    """Arguments of train.py for one of METHODS, or for another method of ours with the file that its tests take."""
    if method in METHODS:
        trainer, stem, options, own = METHODS[method]
    else:
        from tests.trainers.conftest import TINY
        from tests.trainers.test_trainers import METHODS as FILES

        trainer, stem, options, own = method, FILES[method], (), map(str, TINY.get(method, ()))
    return [
        "--root", str(data), "--seed", "1", "--trainer", trainer, "--output-dir", str(out),
        "--config-file", str(PROJECT / "configs" / "trainers" / trainer / f"{stem}.yaml"), *options,
        "DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "mine", "DATASET.NUM_SHOTS", "2", "USE_CUDA", "False",
        "MODEL.BACKBONE.PATH", str(data / "tiny.pt"), "INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0",
        "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "OPTIM.MAX_EPOCH", str(EPOCHS), *own, *pairs,
    ]  # fmt: skip


def _child(argv, log, prepare):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let jobs in the background ignore it
    multiprocessing.set_start_method("fork", force=True)  # of loading workers, as in a process of the command line
    for stream, file in ((1, f"{log}.out"), (2, f"{log}.err")):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    import torch

    import train
    from dassl.engine import checkpoint

    torch.set_num_threads(1)
    checkpoint.RESUME_POINT_THRIFT = 0  # a point after every epoch, as runs with long epochs have them
    for function, arguments in prepare:
        function(*arguments)
    sys.exit(train.program(argv))


class Process:
    """A run of train.py that has been started.

    Args:
        argv: arguments of train.py.
        log: what it prints goes to the files `<log>.out` and `<log>.err`.
        prepare: (function, arguments) that are called in the process before train.py is.
    """

    def __init__(self, argv, log, prepare=()):
        self.log, context = Path(log), _context()
        self.process = context.Process(target=_child, args=(argv, str(log), prepare))
        self.process.start()

    def send(self, number):
        """Send a signal; whether the process was there to get it."""
        if self.process.exitcode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        return True

    def wait(self, seconds=120):
        """(exit status, negative for a signal; last line on stderr that is no warning); AssertionError if it hangs."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.send(signal.SIGKILL)
            self.process.join()
            raise AssertionError(f"hangs: {self.printed()[-2000:]}")
        lines = [line for line in self.errors().split("\n") if line.strip()]
        return self.process.exitcode, lines[-1] if lines else ""

    def printed(self):
        """What it has printed so far."""
        file = Path(f"{self.log}.out")
        return file.read_text(errors="replace") if file.exists() else ""

    def errors(self):
        """What it has written to stderr so far."""
        file = Path(f"{self.log}.err")
        return file.read_text(errors="replace") if file.exists() else ""


def run(argv, log, prepare=(), seconds=120):
    """Start train.py and wait for its end: (exit status, last line on stderr)."""
    return Process(argv, log, prepare).wait(seconds)


def _context():
    """The fork server, which is started with the project as its folder: it finds the modules by it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.stress.preload"])
    before = os.getcwd()
    os.chdir(PROJECT)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.chdir(before)
    return context


def outcome(out):
    """{what: value} of a finished run: metrics and data of results.json, all that its checkpoints hold but seconds."""
    from dassl.utils import load_checkpoint

    results = json.loads((out / "results.json").read_text())
    found = {key: results[key] for key in ("status", "metrics", "classnames", "data_hash", "num", "epochs", "config")}
    del found["config"]["OUTPUT_DIR"], found["config"]["DATASET"], found["config"]["MODEL"]  # other folders
    del found["config"]["DATALOADER"], found["config"]["TRAINER"]["CACHE_VIEWS"]  # by which no number may change
    for file in sorted(out.glob("*/model*.pth.tar*")):
        checkpoint = load_checkpoint(str(file))
        checkpoint.pop("train_seconds")
        found[f"{file.parent.name}/{file.name}"] = checkpoint
    return found


def differences(a, b, place="", tolerance=0.0):
    """Places where two nested values differ: bit for bit, or in floats by more than ``tolerance`` (of entries above 1)."""
    import torch

    if type(a) is not type(b):
        return [place]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{place}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [d for key in a for d in differences(a[key], b[key], f"{place}/{key}", tolerance)]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [place]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{place}/{i}", tolerance)]
    if isinstance(a, torch.Tensor):
        if tolerance and a.is_floating_point() and a.shape == b.shape and a.dtype == b.dtype and a.numel():
            return [] if (a - b).abs().max() <= tolerance * max(1.0, a.abs().max()) else [place]
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [place]
    if tolerance and isinstance(a, float):
        return [] if a == b or abs(a - b) <= tolerance * max(1.0, abs(a)) else [place]
    return [] if a == b or (a != a and b != b) else [place]


def leftovers(out):
    """Files of a finished run's folder that should be gone: partly written ones, points to resume from."""
    return [str(p) for p in out.rglob("*") if p.name.endswith(PART_SUFFIX) or p.parent.name == "resume"]
