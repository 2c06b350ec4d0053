"""VPT and IVLP: prompts in the layers of one encoder or of both, learned independently.

Deep vision prompting (Jia et al., Visual Prompt Tuning, 2022) and independent vision-language prompting (Rasheed et al., 2023),
as in the repository multimodal-prompt-learning (Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023).
"""

import torch
from torch import nn

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.keys import check_depth, initial_words, precision, prompt_depth
from prompting import Insertions


def random_rows(count, n, width):
    """``count`` matrices [n, width] of learned rows, N(0, 0.02)."""
    return nn.ParameterList(nn.Parameter(torch.randn(n, width) * 0.02) for _ in range(count))


def prompt_keys(n):
    """Keys of methods with ``n`` prompts in the layers of both encoders."""
    return {
        "N_CTX_VISION": key(n, "rows of a visual prompt", low=1, high=1000),
        "N_CTX_TEXT": key(n, "context vectors of a text prompt", low=1, high=70),
        "CTX_INIT": initial_words("a photo of a"),
        "PREC": precision(),
        "PROMPT_DEPTH_VISION": prompt_depth(9, "image encoder"),
        "PROMPT_DEPTH_TEXT": prompt_depth(9, "text tower", low=1),
    }


class DeepLearner(nn.Module):
    """Learned rows of both encoders.

    Attributes:
        ctx: [n, D] rows of the text prompt, or None.
        text_prompts: rows [n, D] that replace them before the text tower's layers 1, 2, ….
        image_prompts: rows [n, W] behind the patches, then those that replace them before the layers 1, 2, ….
    """

    def __init__(self, ctx, text_prompts, image_prompts):
        super().__init__()
        self.ctx = None if ctx is None else nn.Parameter(ctx.detach().float().clone())
        self.text_prompts, self.image_prompts = text_prompts, image_prompts


class ImagePrompts(PromptTrainer):
    """Methods whose learner has ``image_prompts``; published checkpoints hold all of CLIP beside them."""

    published_names = {
        r"prompt_learner\.ctx": "ctx",
        r"image_encoder\.VPT": "image_prompts.0",
        r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": r"image_prompts.\1",
        r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow": lambda layer: f"text_prompts.{int(layer[1]) - 1}",
    }

    @property
    def image_learning(self):
        return ImageLearning.PROMPTS if self.options.PROMPT_DEPTH_VISION else ImageLearning.NOTHING

    def new_image_prompts(self):
        """PROMPT_DEPTH_VISION matrices of N_CTX_VISION rows."""
        depth = self.options.PROMPT_DEPTH_VISION
        if not depth:
            return nn.ParameterList()
        check_depth(f"TRAINER.{self.section}.PROMPT_DEPTH_VISION", depth, len(self.clip.image_blocks), "the image encoder")
        return random_rows(depth, self.options.N_CTX_VISION, self.clip.image_width)

    def image_insertions(self):
        if not len(self.learner.image_prompts):
            return None
        first, *others = self.learner.image_prompts  # a slice of a ParameterList would be parameters of its own
        return Insertions(embedded_rows=first, rows=dict(enumerate(others, 1)))


@TRAINER_REGISTRY.register()
class VPT(ImagePrompts):
    """Prompts of the image encoder alone; class features of "a photo of a {}." for every data set, as published."""

    section = "VPT"
    epochs_only_in_schedule = True

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.VPT = section(
            N_CTX_VISION=key(8, "rows of a visual prompt", low=1, high=1000),
            CTX_INIT=key("a photo of a", "the words before the class name; the published code always has these",
                         choices=("a photo of a",)),
            PREC=precision(),
            PROMPT_DEPTH_VISION=prompt_depth(12, "image encoder", low=1),
        )  # fmt: skip

    def build_learner(self, classnames):
        self.class_features = self.hard_features([self.options.CTX_INIT + " {}."], classnames)[0]  # [C, E]
        return DeepLearner(None, nn.ParameterList(), self.new_image_prompts())

    def text_features(self):
        return self.class_features


@TRAINER_REGISTRY.register()
class IVLP(ImagePrompts):
    """Prompts of both encoders; with PROMPT_DEPTH_VISION 0, deep prompts of the text encoder alone."""

    section = "IVLP"
    epochs_only_in_schedule = True
    model_name = "VLPromptLearner"

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.IVLP = section(**prompt_keys(2))

    def build_learner(self, classnames):
        n, depth = self.options.N_CTX_TEXT, self.options.PROMPT_DEPTH_TEXT
        check_depth(f"TRAINER.{self.section}.PROMPT_DEPTH_TEXT", depth, len(self.clip.text.blocks), "the text tower")
        ctx, programs = self.leading_words(n, classnames)
        self.prompt_plan = self.plan([programs])
        return DeepLearner(ctx, random_rows(depth - 1, n, self.clip.width), self.new_image_prompts())

    def text_features(self):
        deep = Insertions(rows=dict(enumerate(self.learner.text_prompts, 1)))
        return self.encode(self.prompt_plan, self.learner.ctx, insertions=deep)[0]
