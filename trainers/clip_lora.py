"""CLIP-LoRA: low-rank changes of the attention's projections in both encoders (Zanella and Ben Ayed, CVPR workshops 2024)."""

import math

from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.iterations import ByIterations
from learning.keys import precision
from learning.low_rank import POSITIONS, LowRank, LowRankLearner, branches, layers_at
from learning.published_lora import PublishedLoRA, our_name
from prompting import Insertions, hard_programs

SCALE = 100.0  # of the cosines, whatever CLIP's own is
TEMPLATE = "a photo of a {}."  # for every data set, as published


@TRAINER_REGISTRY.register()
class CLIPLoRA(PublishedLoRA, ByIterations, PromptTrainer):
    """Cross-entropy, with the text features encoded anew in each step.

    In training each class and position has a dropout mask of its own, as published: prompts share nothing then, and a step's text
    side costs as much as plainly. ``SHARE_MASKS`` lets classes share what their prompts have in common, masks included: each
    class's features are distributed as before, but their noise is correlated.
    """

    section = "CLIPLORA"
    takes_several_labels = True
    model_name = "lora"
    published_names = {r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.(?:([qkv])_)?proj\.(w_lora_[AB])": our_name}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.CLIPLORA = section(
            PREC=precision("amp"),
            ENCODER=key("both", "which encoders are changed", choices=("both", "text", "vision")),
            PARAMS=key(["q", "k", "v"], "changed projections of the attention", choices=("q", "k", "v", "o")),
            POSITION=key("all", "layers with changes", choices=POSITIONS),
            R=key(2, "rank of a change", low=1, high=4096),
            ALPHA=key(1.0, "a change is scaled by ALPHA / √R", above=0.0, high=1e6),
            DROPOUT=key(0.25, "rate of dropout before a change", low=0.0, below=1.0),
            SHARE_MASKS=key(False, "classes share dropout masks where their prompts are alike: faster, correlated noise"),
            ITERS_PER_SHOT=key(500, "steps for each shot; 0: OPTIM.MAX_EPOCH epochs", low=0, high=1_000_000),
        )

    @property
    def image_learning(self):
        return ImageLearning.NOTHING if self.options.ENCODER == "text" else ImageLearning.ADAPTERS

    def build_learner(self, classnames):
        o = self.options
        names = sorted(set(o.PARAMS), key="qkvo".index)
        if not names:
            raise UserError("TRAINER.CLIPLORA.PARAMS is empty: name at least one of q, k, v, o")

        def changes(encoder, layers, width):
            if o.ENCODER not in ("both", encoder):
                return {}
            new = lambda: LowRank(width, o.R, o.ALPHA / math.sqrt(o.R), o.DROPOUT)  # noqa: E731
            return {str(i): nn.ModuleDict({name: new() for name in names}) for i in layers_at(o.POSITION, layers)}

        image = {}
        if o.ENCODER != "text":
            image = changes("vision", len(self.clip.image_blocks), self.clip.image_width)
        self.prompt_plan = self.plan([hard_programs(TEMPLATE, classnames, self.clip.tokenizer)])
        return LowRankLearner(changes("text", len(self.clip.text.blocks), self.clip.width), image)

    @property
    def drops(self):
        """Whether dropout is on."""
        return self.learner.training and self.options.DROPOUT > 0

    def text_features(self):
        unshared = self.drops and not self.options.SHARE_MASKS and len(self.learner.text) > 0
        changed = Insertions(projections=branches(self.learner.text), unshared=unshared)
        return self.encode(self.prompt_plan, insertions=changed)[0]

    def image_insertions(self):
        return Insertions(projections=branches(self.learner.image), unshared=self.drops) if len(self.learner.image) else None

    def logits(self, image_features, prepared):
        return SCALE * image_features @ prepared.t()
