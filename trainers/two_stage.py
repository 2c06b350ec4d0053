"""2SFS: first norms (or biases) of both encoders are tuned, then a classifier on what they give (Farina et al., CVPR 2025)."""

import torch
import torch.nn.functional as F
from torch import nn

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.class_rows import ClassRows, known
from learning.iterations import ByIterations, cosine
from learning.keys import precision
from prompting import hard_programs, unit

TEMPLATE = "a photo of a {}."  # for every data set, as published


class TwoStageLearner(nn.Module):
    """Tuned parameters of CLIP, which are CLIP's own tensors, and a classifier [C, E], zero until the second stage."""

    def __init__(self, tuned, num_classes, embed_dim):
        super().__init__()
        self.tuned = nn.ParameterDict({name.replace(".", "/"): p.requires_grad_(True) for name, p in tuned})
        self.classifier = nn.Parameter(torch.zeros(num_classes, embed_dim))


def tuned_parameters(blocks, place, kind, start):
    """(name, parameter) of the norms' weights and biases, or of all biases, in ``blocks`` from number ``start`` on."""
    for i, block in enumerate(blocks[start:], start):
        for name, module in block.named_modules():
            norm = isinstance(module, nn.LayerNorm)
            leaves = ("weight", "bias") if norm and kind == "ln" else ("bias",) if kind == "bitfit" else ()
            for leaf in leaves:
                if isinstance(getattr(module, leaf, None), nn.Parameter):
                    yield f"{place}transformer.resblocks.{i}.{name}.{leaf}", getattr(module, leaf)


@TRAINER_REGISTRY.register()
class TwoSFS(ByIterations, ClassRows, PromptTrainer):
    """Cross-entropy with text features in the first FIRST_STAGE of all steps; then with a classifier that starts from them.

    Known classes are predicted by the classifier, others by their text features. With PEFT ``ln`` the norms before and behind the
    blocks stay as they are, as in the published code; with ``bitfit`` their biases are tuned.
    """

    section = "TWOSFS"
    takes_several_labels = True
    model_name = "two_stage"
    published_names = {
        r"(?:visual\.)?(?:transformer\.resblocks\.\d+\..+|ln_\w+\.\w+)": lambda name: f"tuned.{name[0].replace('.', '/')}"
    }

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.TWOSFS = section(
            PREC=precision("amp"),
            PEFT=key("ln", "what the first stage tunes: norms (weights and biases) or all biases", choices=("ln", "bitfit")),
            MODALITY=key("both", "in which encoders", choices=("both", "text", "vision")),
            VISION_START=key(0, "first block of the image encoder with tuned parameters, counted from 0", low=0, high=1000),
            TEXT_START=key(0, "the same of the text tower", low=0, high=1000),
            ITERS_PER_SHOT=key(300, "steps of both stages for each shot; 0: OPTIM.MAX_EPOCH epochs", low=0, high=1_000_000),
            FIRST_STAGE=key(0.6, "share of the first stage in all steps", low=0.0, high=1.0),
        )

    @property
    def image_learning(self):
        return ImageLearning.NOTHING if self.options.MODALITY == "text" else ImageLearning.LAYERS

    def build_learner(self, classnames):
        o, clip, tuned = self.options, self.clip, []
        if o.MODALITY != "text":
            tuned += tuned_parameters(clip.image_blocks, "visual.", o.PEFT, o.VISION_START)
        if o.MODALITY != "vision":
            tuned += tuned_parameters(clip.text.blocks, "", o.PEFT, o.TEXT_START)
        if o.PEFT == "bitfit":
            ends = {"visual.ln_pre": clip.visual, "visual.ln_post": clip.visual, "ln_final": clip.text}
            wanted = {"both": ends, "text": ["ln_final"], "vision": ["visual.ln_pre", "visual.ln_post"]}[o.MODALITY]
            tuned += [(f"{name}.bias", getattr(ends[name], name.rpartition(".")[2]).bias) for name in wanted]
        for _, parameter in tuned:
            parameter.data = parameter.data.float()  # optimisers need more than half precision
        self.prompt_plan = self.plan([hard_programs(TEMPLATE, classnames, clip.tokenizer)])
        return TwoStageLearner(tuned, len(classnames), clip.embed_dim)

    def build_schedule(self):
        schedule, rate = super().build_schedule(), self.cfg.OPTIM.LR
        self.first_steps = int(self.options.FIRST_STAGE * self.total_steps)
        second = self.total_steps - self.first_steps

        def factor(step):  # each stage has a cosine of its own
            if step < self.first_steps:
                return cosine(rate, step, self.first_steps) / rate
            return cosine(rate, min(step - self.first_steps, second), max(second, 1)) / rate

        schedule.lr_lambdas = [factor for _ in schedule.lr_lambdas]
        return schedule

    def text_features(self):
        return self.encode(self.prompt_plan)[0]

    def prepare(self):
        """Unit rows [C, E]: the classifier's where a class has one, else text features."""
        rows = self.learner.classifier
        return torch.where(known(rows)[:, None], F.normalize(rows, dim=-1), self.text_features())

    def loss(self, image_features, labels):
        step = self.sched.last_epoch
        if step < self.first_steps:
            return super().loss(image_features, labels)
        if step == self.first_steps:
            with torch.no_grad():
                self.learner.classifier.copy_(self.text_features())
        logits = self.logits(image_features.detach(), unit(self.learner.classifier))
        return self.class_loss(logits, labels), logits, {}
