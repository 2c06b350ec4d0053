"""TaskRes: a learned vector for each class is added to CLIP's own text feature (Yu et al., Task Residual, CVPR 2023)."""

import torch
from torch import nn

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.base_text import BaseText
from learning.keys import enhanced_base, precision, views
from learning.support_rows import ViewsInTurn
from prompting import unit


class ResidualLearner(nn.Module):
    """Base text features [C, E], fixed, and their residuals [C, E], zero at the start; names as in the repository TaskRes."""

    def __init__(self, base):
        super().__init__()
        self.register_buffer("base_text_features", base)
        self.text_feature_residuals = nn.Parameter(torch.zeros_like(base))


@TRAINER_REGISTRY.register()
class TaskRes(ViewsInTurn, BaseText, PromptTrainer):
    """Cross-entropy with the text features unit(t + α x); classes without a residual have CLIP's own.

    t is the mean over the templates of features that aren't normalised; class names keep their underscores.
    """

    section = "TaskRes"
    takes_several_labels = True
    image_learning = ImageLearning.NOTHING
    epochs_only_in_schedule = True
    class_rows = ("base_text_features", "text_feature_residuals")
    published_names = {r"(?:prompt_learner\.)?(base_text_features|text_feature_residuals)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.TaskRes = section(
            PREC=precision(),
            RESIDUAL_SCALE=key(1.0, "α, scale of the residuals", above=0.0, high=1e6, binds=True),
            ENHANCED_BASE=enhanced_base(),
            VIEWS=views(),
        )

    def build_learner(self, classnames):
        return ResidualLearner(self.base_text(classnames).mean(dim=0))

    def text_features(self):
        learner = self.learner
        return unit(learner.base_text_features + self.options.RESIDUAL_SCALE * learner.text_feature_residuals)
