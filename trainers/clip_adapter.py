"""CLIP-Adapter: a small net on the image feature, mixed with the feature itself (Gao et al., CLIP-Adapter, IJCV 2024)."""

from torch import nn

from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.dataset import hand_template
from learning.keys import precision, views
from learning.support_rows import ViewsInTurn
from prompting import unit


class Adapter(nn.Module):
    """E -> E / r -> E without biases, a ReLU behind each layer; names as in the repository CLIP-Adapter."""

    def __init__(self, width, reduction):
        super().__init__()
        hidden = max(1, width // reduction)
        narrow, wide = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.fc = nn.Sequential(narrow, nn.ReLU(), wide, nn.ReLU())

    def forward(self, features):
        return self.fc(features)


@TRAINER_REGISTRY.register()
class CLIP_Adapter(ViewsInTurn, PromptTrainer):  # noqa: N801  (the published name)
    """Cross-entropy with the image features unit(RATIO · adapter(f) + (1 - RATIO) · f) of CLIP's feature f, not normalised.

    As in the repository, which has no adapter of text features. Its width is that of CLIP's features, whatever the backbone.
    """

    section = "CLIP_ADAPTER"
    takes_several_labels = True
    model_name = "clip_adapter"
    image_learning = ImageLearning.HEAD
    epochs_only_in_schedule = True
    published_names = {r"(?:adapter\.)?(fc\.[02]\.weight)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.CLIP_ADAPTER = section(
            PREC=precision("fp32"),
            RATIO=key(0.2, "share of the adapter's output in the image feature", low=0.0, high=1.0, binds=True),
            REDUCTION=key(4, "how many times narrower the adapter is than the image feature", low=1, high=1_000_000),
            VIEWS=views(),
        )

    def build_learner(self, classnames):
        template = hand_template(self.cfg)
        print(f'Template: "{template}"')
        self.class_features = self.hard_features([template], classnames)[0]  # [C, E]
        return Adapter(self.clip.embed_dim, self.options.REDUCTION)

    def text_features(self):
        return self.class_features

    def encode_image(self, images):
        features = images if images.dim() == 2 else self.clip.encode_image(images, raw=True)
        features = features.to(self.learner.fc[0].weight.dtype)
        ratio = self.options.RATIO
        return unit(ratio * self.learner(features) + (1 - ratio) * features)
