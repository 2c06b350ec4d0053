"""LP++: a linear classifier whose weights are blended with text features (Huang et al., LP++, CVPR 2024)."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from dassl.optim.eager import SGD
from learning import PromptTrainer
from learning.class_rows import ClassRows
from learning.keys import precision
from learning.support import FrozenFeatures, WithoutEpochs
from prompting import unit

MOMENTUM = 0.9
ALPHA_EVERY = 10  # steps between those of alpha
ALPHA_START = 250.0  # times the mean similarity of images and their class's text
PUBLISHED = "published"


class BlendedClassifier(nn.Module):
    """``classifier`` E -> C and ``alpha`` [1, C], the texts' weight in each class; names as in the published code."""

    def __init__(self, embed_dim, num_classes):
        super().__init__()
        self.classifier = nn.Linear(embed_dim, num_classes)
        self.alpha = nn.Parameter(torch.zeros(1, num_classes))

    def forward(self, features, text_features):
        return self.classifier(features) + self.alpha * (features @ text_features.t())


@TRAINER_REGISTRY.register()
class LinearProbe_P2(WithoutEpochs, ClassRows, FrozenFeatures, PromptTrainer):
    """Logits f·w_c + b_c + α_c f·t_c of unit features; OPTIM.MAX_EPOCH steps on all images at once.

    Step sizes and the start come from the data; SGD with momentum for w and b. α takes each tenth step, down the sum of all
    gradients since the first one: the published code never clears them. The step whose model is kept is the last of those with
    the best validation accuracy, or the last of all.
    """

    section = "LINEARPROBE_P2"
    model_name = "lp_plus_plus"
    class_rows = ("classifier.weight", "classifier.bias", "alpha")

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.LINEARPROBE_P2 = section(
            PREC=precision(),
            SELECT=key("val", "the step is chosen on the run's validation images; last: none is; as published, on as many "
                       "validation images a class as training images", choices=("val", "last", PUBLISHED)),
        )  # fmt: skip

    def build_learner(self, classnames):
        self.class_features = self.class_text(classnames)  # [C, E]
        return BlendedClassifier(self.clip.embed_dim, len(classnames))

    def prepare(self):
        return self.class_features

    def logits(self, image_features, prepared):
        return self.learner(unit(image_features), prepared)

    def fit(self):
        (features,), labels = self.support(1)
        steps, val = self.cfg.OPTIM.MAX_EPOCH, self.chosen_on()
        best, kept = -1.0, None
        for step, loss in enumerate(self.steps(unit(features), labels, steps), 1):
            self.detect_anomaly(loss)
            accuracy = self.accuracy(*val) if val else 0.0
            if step == steps or step % 50 == 0:
                print(f"step [{step}/{steps}] loss {loss:.4f}" + (f" validation accuracy {accuracy:.2f}%" if val else ""))
            if accuracy >= best:
                best, kept = accuracy, copy.deepcopy(self.learner.state_dict())
                self.selection["step"] = step
        self.learner.load_state_dict(kept)
        print(f"Step {self.selection['step']} is kept ({self.selection['by']})")

    def chosen_on(self):
        """Features and labels of the images on which the step is chosen, None for the last step; records how."""
        select, shots = self.options.SELECT, self.cfg.DATASET.NUM_SHOTS
        items = self.validation_items() if select == "val" else []
        if select == PUBLISHED:
            items = self.published_validation(max(shots, 0))
            if not items:
                raise UserError(f"TRAINER.LINEARPROBE_P2.SELECT published: {self.cfg.DATASET.NAME} has no validation images")
        by = f"the best accuracy on {len(items):,} validation images" if items else "the last one"
        self.selection = {"protocol": select if items else "last", "by": by}
        return self.features_of(self.loader_of(items)) if items else None

    @torch.no_grad()
    def accuracy(self, features, labels):
        """Accuracy in per cent on features [n, E]."""
        return 100.0 * (self.logits(features, self.class_features).argmax(dim=1) == labels).double().mean().item()

    def steps(self, features, labels, number):
        """Start from unit features [N, E] of labels [N], and yield the loss of each step once it is taken."""
        learner, text = self.learner, self.class_features
        similarity = features @ text.t()  # [N, C]
        lr_w, lr_alpha = step_sizes(features, similarity)
        of_class = F.one_hot(labels, len(text)).to(features.dtype).t()  # [C, N]
        own = (of_class * similarity.t()).sum(dim=1) / of_class.sum(dim=1)  # [C], mean over the class's images
        with torch.no_grad():
            learner.classifier.weight.copy_(of_class @ features)
            learner.alpha.fill_(ALPHA_START * own.mean())
        print(f"Step sizes {lr_w:.4g} (classifier), {lr_alpha:.4g} (alpha); alpha starts at {learner.alpha[0, 0].item():.4g}")
        optimizer = SGD(learner.classifier.parameters(), lr_w, momentum=MOMENTUM)
        learner.alpha.grad = None
        for step in range(1, number + 1):
            loss = F.cross_entropy(learner(features, text), labels)
            optimizer.zero_grad()
            loss.backward()  # alpha's gradient goes on being summed
            optimizer.step()
            if step % ALPHA_EVERY == 0:
                with torch.no_grad():
                    learner.alpha -= lr_alpha * learner.alpha.grad
            yield loss.item()

    def adapt_state_dict(self, name, state_dict):
        strange = set(self.dm.dataset.classnames) - set(self._trained_classes or self.dm.dataset.classnames)
        if strange:
            raise UserError(f'LP++ has learned nothing for the class "{min(strange)}": it knows its training classes only')
        if self._trained_classes:
            state_dict = {**state_dict, "alpha": state_dict["alpha"].t()}  # a row for each class
            return {**(adapted := super().adapt_state_dict(name, state_dict)), "alpha": adapted["alpha"].t()}
        return super().adapt_state_dict(name, state_dict)


def step_sizes(features, similarity):
    """(4 N / λ_max(FᵀF), N / (4 max_c Σ_i P_ic²)) of features F [N, E] and similarities P [N, C]: Lipschitz bounds."""
    gram = features.t() @ features if features.shape[1] <= len(features) else features @ features.t()  # the same λ_max
    largest = torch.linalg.eigvalsh(gram.double().cpu())[-1].item()
    return 4 * len(features) / largest, len(features) / (4 * similarity.square().sum(dim=0).max().item())
