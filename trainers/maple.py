"""MaPLe: deep text prompts and visual prompts projected from them (Khattak et al., Multi-modal Prompt Learning, CVPR 2023)."""

import copy

from torch import nn

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.keys import check_depth, initial_words, precision, prompt_depth
from prompting import Insertions

from .vpt import random_rows


class CoupledLearner(nn.Module):
    """What MaPLe learns; names and shapes as in the repository multimodal-prompt-learning, widths those of the model.

    Attributes:
        ctx: [n, D] context vectors.
        proj: linear D -> W, the visual prompt of the first layer.
        compound_prompts_text: rows [n, D] that replace the context before the layers 1, 2, ….
        compound_prompt_projections: a linear D -> W for each of them, alike at the start.
    """

    def __init__(self, ctx, depth, image_width):
        super().__init__()
        n, width = ctx.shape
        self.ctx = nn.Parameter(ctx.detach().float().clone())
        self.proj = nn.Linear(width, image_width)
        self.compound_prompts_text = random_rows(depth - 1, n, width)
        one = nn.Linear(width, image_width)
        self.compound_prompt_projections = nn.ModuleList(copy.deepcopy(one) for _ in range(depth - 1))

    def image_rows(self):
        """The visual prompts of the layers 1, 2, …: {layer: [n, W]}."""
        deep = zip(self.compound_prompt_projections, self.compound_prompts_text, strict=True)
        return dict(enumerate((project(rows) for project, rows in deep), 1))


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Cross-entropy; PROMPT_DEPTH counts the first layer."""

    section = "MAPLE"
    epochs_only_in_schedule = True
    model_name = "MultiModalPromptLearner"
    image_learning = ImageLearning.PROMPTS
    published_names = {r"prompt_learner\.(ctx|proj\.\w+|compound_prompts_text\.\d+|compound_prompt_projections\.\d+\.\w+)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.MAPLE = section(
            N_CTX=key(2, "context vectors, and rows of a visual prompt", low=1, high=70),
            CTX_INIT=initial_words("a photo of a"),
            PREC=precision(),
            PROMPT_DEPTH=prompt_depth(9, "encoders", low=1),
        )

    def build_learner(self, classnames):
        depth, key_name = self.options.PROMPT_DEPTH, "TRAINER.MAPLE.PROMPT_DEPTH"
        check_depth(key_name, depth, len(self.clip.text.blocks), "the text tower")
        check_depth(key_name, depth, len(self.clip.image_blocks), "the image encoder")
        ctx, programs = self.leading_words(self.options.N_CTX, classnames)
        self.prompt_plan = self.plan([programs])
        return CoupledLearner(ctx, depth, self.clip.image_width)

    def text_features(self):
        deep = Insertions(rows=dict(enumerate(self.learner.compound_prompts_text, 1)))
        return self.encode(self.prompt_plan, self.learner.ctx, insertions=deep)[0]

    def image_insertions(self):
        return Insertions(embedded_rows=self.learner.proj(self.learner.ctx), rows=self.learner.image_rows())
