"""What the tests run in one process and in two: `torchrun --nproc-per-node 2 job.py FOLDER` writes FOLDER/<rank>.json.

FOLDER/job.json names the data root and the weights. Every case's losses of all batches, metrics and share are written.
All is computed in fp64: with this tiny CLIP's random weights, training amplifies fp32's last bits within few steps.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import torch

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

import datasets  # noqa: E402, F401  (registers)
import trainers  # noqa: E402
from dassl.config import get_cfg_default  # noqa: E402
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer  # noqa: E402
from dassl.utils import UserError, parallel  # noqa: E402
from learning import PromptTrainer  # noqa: E402
from learning.shares import SplitPlan  # noqa: E402
from prompting import build_plan, context_programs, load_clip, template_programs  # noqa: E402

BATCH, TEST_BATCH = "DATALOADER.TRAIN_X.BATCH_SIZE", "DATALOADER.TEST.BATCH_SIZE"
# name: method, configuration, pairs. There are 20 training images and 10 test images of 5 classes.
CASES = {
    "CoOp": ("CoOp", "vit_b16_ctxv1"),
    "CoOp, own contexts, batches of 3": ("CoOp", "vit_b16", "TRAINER.COOP.CSC", True, BATCH, 3),
    "CoOp, single images, workers": (
        "CoOp",
        "vit_b16_ctxv1",
        BATCH,
        1,
        TEST_BATCH,
        3,
        "DATALOADER.NUM_WORKERS",
        1,
        "OPTIM.MAX_EPOCH",
        1,
    ),
    "CoCoOp": ("CoCoOp", "vit_b16_c4_ep10_batch1", BATCH, 3),
    "CoCoOp, single images": ("CoCoOp", "vit_b16_c4_ep10_batch1_ctxv1", BATCH, 1, "OPTIM.MAX_EPOCH", 1),
    "KgCoOp": ("KgCoOp", "vit_b16_ep100_ctxv1"),
    "ProGrad": ("ProGrad", "vit_b16_ep100", BATCH, 5),
    "MoCoOp": ("MoCoOp", "vit_b16", BATCH, 5),
    "MoCoOp, routed": (
        "MoCoOp",
        "vit_b16",
        BATCH,
        5,
        "TRAINER.MOCOOP.ROUTER_TAU",
        0.05,
        "TRAINER.MOCOOP.ROUTER_CENTRE",
        True,
        "TRAINER.MOCOOP.ROUTER_HIDDEN",
        7,
        "TRAINER.MOCOOP.BALANCE_LOSS",
        "switch",
    ),  # fmt: skip
    "MoCoOp, recomputing layers, kept views": ("MoCoOp", "vit_b16", "TRAINER.CHECKPOINTING", True, "TRAINER.CACHE_VIEWS", True),
    "MoCoOp, deep": (
        "MoCoOp",
        "vit_b16_deep",
        BATCH,
        3,
        "TRAINER.MOCOOP.PROMPT_DEPTH_VISION",
        2,
        "TRAINER.MOCOOP.PROMPT_DEPTH_TEXT",
        2,
        "TRAINER.MOCOOP.GPA_MEAN",
        2,
    ),
    "MoCoOp, a meta-net": (
        "MoCoOp",
        "vit_b16",
        BATCH,
        5,
        "TRAINER.MOCOOP.META_NET",
        True,
        "TRAINER.MOCOOP.PROMPT_DEPTH_TEXT",
        2,
        "TRAINER.MOCOOP.PROMPT_DEPTH_VISION",
        1,
    ),
    "MoCoOp, experts in turn": ("MoCoOp", "vit_b16", BATCH, 3, "TRAINER.MOCOOP.TEXT_EXPERTS", 2),
    "MoCoOp, released": ("MoCoOp", "vit_b16_ep50_released", BATCH, 3, "OPTIM.LR", 0.002, "OPTIM.WARMUP_EPOCH", 1),
    "MoCoOp, released, single images": (
        "MoCoOp",
        "vit_b16_ep50_released",
        BATCH,
        1,
        "OPTIM.LR",
        0.002,
        "OPTIM.WARMUP_EPOCH",
        1,
        "OPTIM.MAX_EPOCH",
        1,
    ),  # fmt: skip
    "ZeroshotCLIP2": ("ZeroshotCLIP2", "vit_b16"),
    "MaPLe, recomputing layers": (
        "MaPLe",
        "vit_b16_c2_ep5_batch4_2ctx",
        "TRAINER.MAPLE.PROMPT_DEPTH",
        2,
        "TRAINER.CHECKPOINTING",
        True,
    ),
    "PromptSRC": (
        "PromptSRC",
        "vit_b16_c2_ep20_batch4_4+4ctx",
        BATCH,
        3,
        "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION",
        2,
        "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT",
        2,
    ),
    "MMA": ("MultiModalAdapter", "vit_b16_ep5", "TRAINER.MMADAPTER.ADAPTER_START", 0, "TRAINER.MMADAPTER.ADAPTER_END", 2),
    "MMRL": ("MMRL", "vit_b16", "TRAINER.MMRL.REP_LAYERS", [1, 2], "TRAINER.MMRL.REP_DIM", 32, "OPTIM.LR", 0.001),
    "TCP": ("TCP", "vit_b16_ep100_ctxv1", "TRAINER.TCP.LAYER", 1, "OPTIM.LR", 0.002),
    "ATPrompt": ("CoOp_ATP", "vit_b16", BATCH, 3, "TRAINER.ATPROMPT.ATT_NUM", 1, "TRAINER.ATPROMPT.ATT1_TEXT", "size"),
    "LinearProbe": ("LinearProbe", "vit_b16"),
    "Tip-Adapter": ("TipAdapter", "vit_b16", "TRAINER.TIPADAPTER.AUGMENT_EPOCH", 2),
    "Tip-Adapter-F": ("TipAdapterF", "vit_b16", BATCH, 3, "TRAINER.TIPADAPTER.SEARCH", "published"),
    "LP++": ("LinearProbe_P2", "vit_b16", "TRAINER.LINEARPROBE_P2.SELECT", "published", "OPTIM.MAX_EPOCH", 20),
    "DePT": ("ExtrasLinearProbeKgCoOp", "vit_b16_ep10_ctxv1_bs4_lr35", BATCH, 3, "OPTIM.LR", 0.002),
    "CLIP-LoRA": (
        "CLIPLoRA",
        "vit_b16",
        "TRAINER.CLIPLORA.ITERS_PER_SHOT",
        0,
        "TRAINER.CLIPLORA.DROPOUT",
        0.0,
        "OPTIM.LR",
        0.002,
    ),
    "TaskRes": ("TaskRes", "adam_lr2e-3_B256_ep100", BATCH, 3),
    "CLIP-Adapter": ("CLIP_Adapter", "rn50", BATCH, 3, "TRAINER.CLIP_ADAPTER.VIEWS", 1),
    "CLAP": ("ADAPTER", "SGD_lr1e-1_B256_ep300", BATCH, 3, "TRAINER.ADAPTER.VIEWS", 2),
    "cross-modal": (
        "CrossModal",
        "rn50_adapter",
        "TRAINER.CROSSMODAL.LR",
        [0.01],
        "OPTIM.WARMUP_EPOCH",
        1,
        "OPTIM.MAX_EPOCH",
        20,
    ),
    "2SFS": ("TwoSFS", "vit_b16", "TRAINER.TWOSFS.ITERS_PER_SHOT", 0, "OPTIM.LR", 0.002),
    "VPT": ("VPT", "vit_b16_c2_ep5_batch4_4", "TRAINER.VPT.PROMPT_DEPTH_VISION", 2),
}


def make_trainer(job, out, method, stem, *pairs):
    """Two epochs, batches of 4, test batches of 7, fp32, on the CPU."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    cfg.merge_from_file(str(PROJECT / "configs" / "trainers" / method / f"{stem}.yaml"))
    usual = {
        "DATASET.NAME": "ImageFolder", "DATASET.ROOT": job["data"], "DATASET.FOLDER": "mine", "SEED": 1,
        "TRAINER.NAME": method, "MODEL.BACKBONE.PATH": job["weights"], "INPUT.SIZE": (32, 32),
        "DATALOADER.NUM_WORKERS": 0, BATCH: 4, TEST_BATCH: 7, "OPTIM.MAX_EPOCH": 2, "OPTIM.LR": 0.02, "USE_CUDA": False,
        "OUTPUT_DIR": str(out), "TRAINER.FEATURE_CACHE": str(Path(out).parent / "features"),
    }  # fmt: skip
    for key, value in usual.items():
        cfg.merge_from_list([key, value])
    cfg.merge_from_list(list(pairs))
    cfg.freeze()
    return build_trainer(cfg)


def load_in_fp64(*args):
    """``load_clip``'s CLIP in fp64, for images of any precision."""
    clip = load_clip(*args).double()
    clip.visual.conv1.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    return clip


def run(job, folder):
    """{case: losses of every batch (without epochs: norms of what is learned), metrics, (own tokens, prompts of each process)}"""
    found = {}
    for number, (name, case) in enumerate(CASES.items()):
        out = Path(folder) / str(number)
        with mock.patch("learning.building.load_clip", load_in_fp64):
            trainer = make_trainer(job, out, *case)
        if trainer.learner is not None:
            trainer.learner.double()
        losses, step = [], trainer.forward_backward
        trainer.forward_backward = lambda batch, losses=losses, step=step: losses.append(step(batch)) or losses[-1]
        trainer.train()
        if not losses and name in ("Tip-Adapter", "LP++", "cross-modal"):  # fitted at once; L-BFGS amplifies last bits, too
            losses = [{"loss": tensor.double().norm().item()} for tensor in trainer.learner.state_dict().values()]
        plan = getattr(trainer, "prompt_plan", getattr(trainer, "class_plan", None))
        plan = plan or (trainer.expert_plans[0] if getattr(trainer, "expert_plans", None) else None)  # a meta-net's
        parallel.barrier()
        found[name] = {
            "losses": [summary["loss"] for summary in losses],
            "metrics": json.loads((out / "results.json").read_text())["metrics"],
            "tokens": plan.part.num_tokens if isinstance(plan, SplitPlan) else plan and plan.num_tokens,
        }
    return found


def exactness(job):
    """Largest difference of features and gradients, computed in parts and whole, in fp64."""
    clip = load_clip("ViT-B/16", job["weights"]).double()
    names = ["a", "long haired hamster", "dog"]
    templates = ["a photo of a {}.", "a drawing of the {}.", "{} here", "art of {}.", "one big {}."]
    experts = [template_programs(t, names, 6 * i) for i, t in enumerate(templates)]
    generator = torch.Generator().manual_seed(0)
    differences = []
    for programs, copies in ((experts, 1), (experts[:1], 3), (experts, 2), ([context_programs(names[:1], 4)], 1)):
        learned = torch.randn(copies * 32, clip.width, generator=generator, dtype=torch.float64, requires_grad=True)
        whole, split = build_plan(programs), SplitPlan.of(programs, build_plan)
        if copies > 1:
            whole, split = whole.tile(copies, 32), split.tile(copies, 32)
        expected, features = clip.encode_text(whole, learned), split.encode(clip, learned)
        weight = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        gradients = [torch.autograd.grad((f * weight).sum() + f.pow(3).sum(), learned)[0] for f in (expected, features)]
        differences += [(expected - features).abs().max().item(), (gradients[0] - gradients[1]).abs().max().item()]
    return max(differences)


def refusals(job, folder):
    """What methods say that can't share a batch."""

    class OwnStep(PromptTrainer):
        def forward_backward(self, batch):
            return {}

    said = []
    for cls in (OwnStep, TrainerX):
        TRAINER_REGISTRY.register(cls, force=True)
        try:
            make_trainer(job, folder, "CoOp", "vit_b16", "TRAINER.NAME", cls.__name__)
        except UserError as error:
            said.append(str(error))
    return said


def main(folder):
    job = json.loads((Path(folder) / "job.json").read_text())
    parallel.join()
    parallel.start(use_cuda=False)
    found = {"cases": run(job, Path(folder) / "two"), "exactness": exactness(job), "refusals": refusals(job, folder)}
    (Path(folder) / f"{parallel.rank()}.json").write_text(json.dumps(found))
    parallel.finish()


if __name__ == "__main__":
    main(sys.argv[1])
