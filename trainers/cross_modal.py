"""Cross-modal adaptation: a classifier on image features learns from texts as if they were images (Lin et al., CVPR 2023)."""

import itertools
import math

import torch
from torch import nn
from torchvision import transforms as T

from dassl.config import key, section
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import parallel
from learning import PromptTrainer
from learning.class_rows import ClassRows
from learning.endless_batches import TrainsHead, train_head
from learning.keys import precision
from learning.support import FrozenFeatures, WithoutEpochs
from prompting import unit

from .clip_adapter import Adapter

RATIO = 0.2  # of the adapter's output


class Mixed(Adapter):
    """RATIO · adapter(f) + (1 - RATIO) · f"""

    def forward(self, features):
        return RATIO * super().forward(features) + (1 - RATIO) * features


class ClassifierHead(nn.Module):
    """Logits / scale of image features: a linear layer on their unit vectors, with ``adapter`` behind an adapter.

    Names as in the repository cross_modal_adaptation: ``head.weight``, or ``head.0.fc.0.weight``, ``head.0.fc.2.weight`` and
    ``head.1.weight``.
    """

    def __init__(self, num_classes, width, adapter=False):
        super().__init__()
        linear = nn.Linear(width, num_classes, bias=False)
        self.head = nn.Sequential(Mixed(width, 4), linear) if adapter else linear

    @property
    def linear(self):
        """The linear layer."""
        return self.head[1] if isinstance(self.head, nn.Sequential) else self.head

    def forward(self, features, weight=None):
        """weight: [C, E] in place of the linear layer's own."""
        x = unit(features)
        x = self.head[0](x) if isinstance(self.head, nn.Sequential) else x
        return x @ (self.linear.weight if weight is None else weight).t()


@TRAINER_REGISTRY.register()
class CrossModal(WithoutEpochs, TrainsHead, FrozenFeatures, ClassRows, PromptTrainer):
    """Cross-entropy of batches that are half images, half texts; settings and step are those of the best validation accuracy.

    The images are the centre crops and, with VIEW flip, their mirror images; the texts are the templates with all class names.
    Every setting of LR x WEIGHT_DECAY x BATCH_SIZE is trained for OPTIM.MAX_EPOCH steps, all from the same start. Where there
    are no validation images, the first setting's last step counts. WISE_FT mixes the text features into the evaluated
    classifier. Classes that weren't learned have their text feature.
    """

    section = "CROSSMODAL"
    model_name = "cross_modal"
    class_rows = ("head.weight", "head.1.weight")

    @staticmethod
    def extend_cfg(cfg):
        rate = {"low": 0.0, "high": 1e3}
        cfg.TRAINER.CROSSMODAL = section(
            PREC=precision("fp32"),
            MODALITY=key("cross_modal", "whether half of a batch is texts", choices=("cross_modal", "uni_modal")),
            HEAD=key("linear", "the classifier; adapter: a small net before it", choices=("linear", "adapter"), binds=True),
            INIT=key("zeroshot", "where the classifier starts", choices=("zeroshot", "random")),
            VIEW=key("flip", "what is learned from beside the centre crops", choices=("none", "flip")),
            LOGIT=key(4.60517, "logarithm of the logits' scale", low=-10.0, high=10.0, binds=True),
            LR=key([0.001, 0.0001], "learning rates to choose from", **rate),
            WEIGHT_DECAY=key([0.0, 0.01, 0.0001], "weight decays to choose from", **rate),
            BATCH_SIZE=key([8, 32], "batch sizes to choose from", low=1, high=1_000_000),
            EVAL_FREQ=key(100, "steps between two looks at the validation images", low=1, high=1_000_000),
            WISE_FT=key(0.0, "share of the text features in the evaluated classifier", low=0.0, high=1.0),
        )

    def build_learner(self, classnames):
        self.texts = self.hard_features(self.class_templates(), classnames, raw=True).float()  # [T, C, E], not normalised
        self.class_features = unit(self.texts.mean(dim=0))  # [C, E]
        learner = ClassifierHead(len(classnames), self.clip.embed_dim, self.options.HEAD == "adapter")
        if self.options.INIT == "zeroshot":
            learner.linear.weight.data = self.class_features.clone()
        return learner

    def text_features(self):
        """Weights of the evaluated classifier [C, E]."""
        share = self.options.WISE_FT
        return (1 - share) * self.learner.linear.weight + share * self.class_features

    def logits(self, image_features, prepared):
        return math.exp(self.options.LOGIT) * self.learner(image_features, prepared)

    # -- training --------------------------------------------------------------------------------------------------------------

    def images(self):
        """Features [n, E] and labels [n] of all views of the training images."""
        items, plain = self.dm.dataset.train_x, build_transform(self.cfg, is_train=False)
        views = [plain, *([T.Compose([*plain.transforms, T.RandomHorizontalFlip(p=1.0)])] if self.options.VIEW == "flip" else [])]
        found = [self.features_of(self.loader_of(items, tfm)) for tfm in views]
        return tuple(torch.cat(part) for part in zip(*found))

    def fit(self):
        o, (features, labels) = self.options, self.images()
        T_, C, E = self.texts.shape
        texts = self.texts.reshape(T_ * C, E).to(features), torch.arange(C, device=labels.device).repeat(T_)
        items = self.validation_items()
        val = self.features_of(self.loader_of(items)) if items else None
        start = {name: value.clone() for name, value in self.learner.state_dict().items()}
        best = None
        for lr, decay, size in itertools.product(o.LR, o.WEIGHT_DECAY, self.batch_sizes(len(labels), len(texts[1]))):
            self.learner.load_state_dict(start)
            parts = self.batches((features, labels), texts, size)
            check = (lambda: self.accuracy(*val)) if val else None
            scale = math.exp(o.LOGIT)
            step, accuracy, state = train_head(self.learner, scale, self.optim_cfg(lr, decay), parts, check, o.EVAL_FREQ)
            setting = {"learning rate": lr, "weight decay": decay, "batch size": size, "step": step + 1}
            print(", ".join(f"{name} {value:g}" for name, value in setting.items())
                  + (f": {accuracy:.2f}% of {len(items):,} validation images" if val else ""))  # fmt: skip
            if best is None or accuracy > best[0]:
                best = accuracy, setting, state
            if not val:
                break
        by = f"the best accuracy on {len(items):,} validation images" if val else "the first setting's last step"
        self.selection = {"protocol": "val" if val else "none", **best[1], "by": by}
        self.learner.load_state_dict(best[2])
        parallel.copy_from_main(self.learner.parameters())

    # -- checkpoints -----------------------------------------------------------------------------------------------------------

    def unlearned_rows(self, entry, like):
        return self.class_features.to(like.device, like.dtype).clone()
