"""Evaluation time per image of zero-shot CLIP, CoOp, CoCoOp and MoCoOp, and how much text each encodes for it.

    python -m benchmarks.inference_time --threads 1 --classes 10 100 --json inference_time.json

The trainers' own code on a batch of noise, all with one CLIP: by default ViT-B/16's shapes with random weights (speed
doesn't depend on their values), or any backbone. An image's time has three parts: CLIP's image encoder, the same for
all methods; what the method does with the feature (CoCoOp: encode all classes' prompts for this image); and its share
of what is done once an evaluation (the others' text features), spread over --images images. The published test sets
have 800 to 25,000 in each half. Text work is the number of token positions that the text tower computes.
The counterpart of the paper's Table 6, which reports seconds on one GPU.
"""

import contextlib
import io
import logging
import sys

import torch
from tabulate import tabulate

import learning.building
import trainers
from basics import home, program, write_json
from basics.program import Parser
from benchmarks.measure import give_all_words_values, median_times
from benchmarks.text_tower import CALTECH_BASE, EUROSAT
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from inference import without_images
from prompting import CLIP, OPENAI_NAMES, load_clip

# the published base-to-new recipes
RECIPES = {
    "ZeroshotCLIP": "vit_b16", "CoOp": "vit_b16_ctxv1", "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1", "MoCoOp": "vit_b16",
}  # fmt: skip
CONFIGS = {**RECIPES, "KgCoOp": "vit_b16_ep100_ctxv1", "ProGrad": "vit_b16_ep100"}  # whose evaluation is CoOp's
VARIANTS = {  # of MoCoOp: settings
    "MoCoOp, deep text": ("TRAINER.MOCOOP.PROMPT_DEPTH_TEXT", 9),
    "MoCoOp, meta-net": ("TRAINER.MOCOOP.META_NET", True),
}


class Work:
    """Counts the token positions that a text tower computes."""

    def __init__(self, tower):
        self.positions = 0
        self.remove = tower.register_forward_pre_hook(self._count).remove

    def _count(self, tower, args):
        self.positions += args[0].num_tokens

    def of(self, function):
        """Positions computed while ``function`` runs."""
        before = self.positions
        function()
        return self.positions - before


class Method:
    """A trainer that evaluates.

    Args:
        name: registered trainer, or one of VARIANTS.
        clip: the CLIP that all methods share.
        num_classes: C.
        templates: MoCoOp's group file.
    """

    def __init__(self, name, clip, num_classes, templates):
        names = (EUROSAT + CALTECH_BASE) * (num_classes // 60 + 1)
        self.name, self.classnames = name, names[:num_classes]
        pairs = VARIANTS.get(name, ())
        name = "MoCoOp" if pairs else name
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        cfg.merge_from_file(str(home.PROJECT / "configs" / "trainers" / name / f"{CONFIGS[name]}.yaml"))
        cuda = clip.text.positional_embedding.is_cuda
        cfg.merge_from_list([
            "TRAINER.NAME", name, "DATASET.NAME", "EuroSAT", "INPUT.SIZE", (clip.image_size,) * 2, "USE_CUDA", cuda,
            "TRAINER.MOCOOP.TEMPLATES", str(templates), "VERBOSE", False, "SEED", 1,
            *pairs,
        ])  # fmt: skip
        load, learning.building.load_clip = learning.building.load_clip, lambda *args: clip
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.trainer = without_images(TRAINER_REGISTRY.get(name), self.classnames)(cfg)
        finally:
            learning.building.load_clip = load
        self.trainer.set_model_mode("eval")

    @torch.no_grad()
    def text(self):
        """What is done once an evaluation."""
        if self.trainer.learner is None:  # zero-shot: its features are made when it is built
            with contextlib.redirect_stdout(io.StringIO()):
                self.trainer.build_learner(self.classnames)
        self.trainer._prepared = self.trainer.prepare()

    @torch.no_grad()
    def images(self, features):
        """What is done with every batch of unit image features [B, E]: logits [B, C]."""
        return self.trainer.logits(features, self.trainer._prepared)


def random_clip(device, precision):
    """CLIP ViT-B/16 with random weights."""
    import open_clip

    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip warns that no weights were loaded
    try:
        return CLIP(open_clip.create_model(OPENAI_NAMES["ViT-B/16"]), "ViT-B/16", precision, device)
    finally:
        logging.disable(logging.NOTSET)


@torch.no_grad()
def measure(clip, methods, batch_size, num_images, repeats):
    """Rows of the table, one dict a method: seconds and text positions an image, ratios to CoOp and CoCoOp."""
    device = clip.text.positional_embedding.device
    images = torch.randn(batch_size, 3, clip.image_size, clip.image_size, device=device)
    features = clip.encode_image(images)  # [B, E]
    work = Work(clip.text)
    calls = [m.text for m in methods] + [lambda m=m: m.images(features) for m in methods]
    positions = [work.of(call) for call in calls]
    encoder, *seconds = median_times([lambda: clip.encode_image(images), *calls], repeats, device)
    work.remove()
    rows, n = [], len(methods)
    for m, t_once, t_batch, w_once, w_batch in zip(methods, seconds, seconds[n:], positions, positions[n:]):
        rows.append({
            "method": m.name, "classes": len(m.classnames), "batch": batch_size, "images": num_images,
            "seconds_per_image": (encoder + t_batch) / batch_size + t_once / num_images,
            "seconds_encoder": encoder / batch_size, "seconds_method": t_batch / batch_size, "seconds_once": t_once,
            "text_positions_per_image": w_batch / batch_size + w_once / num_images, "text_positions_once": w_once,
        })  # fmt: skip
    by_name = {row["method"]: row for row in rows}
    for row in rows:
        row["time_to_coop"] = row["seconds_per_image"] / by_name["CoOp"]["seconds_per_image"]
        row["text_to_cocoop"] = row["text_positions_per_image"] / by_name["CoCoOp"]["text_positions_per_image"]
    return rows


def main(argv=None):
    """Run one command line; prints the table and returns its rows."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="numbers of classes (default 10 100)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4], help="images a batch (default 4)")
    parser.add_argument("--images", type=int, default=1000, help="images of an evaluation (default 1000)")
    parser.add_argument(
        "--templates",
        default=home.PROJECT / "templates" / "eurosat.txt",
        help="MoCoOp's group file (default: templates/eurosat.txt, 6 experts)",
    )
    parser.add_argument("--backbone", default="", help="a backbone with its weights, e.g. models/builtin")
    parser.add_argument("--variants", action="store_true", help="also MoCoOp with deep prompts and with a meta-net")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"), help="of CLIP (default fp32)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=3, help="measured calls; medians are reported")
    parser.add_argument("--json", default="", help="also write the results to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.backbone:
        clip = load_clip(args.backbone, precision=args.precision, device=args.device)
        give_all_words_values(clip.text.token_embedding.weight)
    else:
        clip = random_clip(args.device, args.precision)
    rows = []
    for num_classes in args.classes:
        names = [*RECIPES, *(VARIANTS if args.variants else ())]
        methods = [Method(name, clip, num_classes, args.templates) for name in names]
        for batch_size in args.batch_sizes:
            rows += measure(clip, methods, batch_size, args.images, args.repeats)
            print(f"{num_classes} classes, batch {batch_size}: done", flush=True)
    print_table(rows)
    if args.json:
        write_json(rows, args.json)
    return rows


def print_table(rows):
    """The rows as a table, and what they say of MoCoOp."""
    headers = ["method", "classes", "batch", "ms an image", "of it encoder", "method", "share of once", "x CoOp",
               "text positions an image", "x CoCoOp"]  # fmt: skip
    table = [
        [r["method"], r["classes"], r["batch"], 1e3 * r["seconds_per_image"], 1e3 * r["seconds_encoder"],
         1e3 * r["seconds_method"], 1e3 * r["seconds_once"] / r["images"], r["time_to_coop"],
         r["text_positions_per_image"], r["text_to_cocoop"]] for r in rows
    ]  # fmt: skip
    print(tabulate(table, headers, floatfmt=("", "", "", ".2f", ".2f", ".2f", ".2f", ".3f", ".2f", ".5f")))
    ours = [r for r in rows if r["method"] == "MoCoOp"]
    time, text = (max(r[key] for r in ours) for key in ("time_to_coop", "text_to_cocoop"))
    print(
        f"MoCoOp: at most {time:.3f} x CoOp's time an image and 1/{1 / text:.0f} of CoCoOp's text work "
        f"({rows[0]['images']} images an evaluation)"
    )


if __name__ == "__main__":
    sys.exit(program.as_process(main))
