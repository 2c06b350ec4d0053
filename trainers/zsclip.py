"""Zero-shot CLIP: hard templates, nothing learned (Radford et al., 2021; templates as in the repository CoOp)."""

from dassl.config import section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.dataset import hand_template
from learning.keys import precision
from prompting import SELECTED_TEMPLATES, unit


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """One template: the dataset's own."""

    section = "ZEROSHOT"
    takes_several_labels = True
    learns = False
    warns_of_names = True

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.ZEROSHOT = section(PREC=precision("fp32"))

    def templates(self):
        """The templates whose mean feature stands for a class."""
        return [hand_template(self.cfg)]

    def build_learner(self, classnames):
        templates = self.templates()
        print("Templates: " + ", ".join(f'"{t}"' for t in templates))
        self.class_features = unit(self.hard_features(templates, classnames).mean(dim=0))  # [C, E]
        return None

    def text_features(self):
        return self.class_features

    def train(self):
        """There is nothing to train: evaluates."""
        print("Nothing is learned: evaluating")
        self.evaluate()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """The seven selected templates of CLIP's authors, and the dataset's own where it isn't ImageNet."""

    def templates(self):
        name = self.cfg.DATASET.NAME
        return [*SELECTED_TEMPLATES, *([] if name == "ImageNet" else [hand_template(self.cfg)])]
