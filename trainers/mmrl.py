"""MMRL: representation tokens that enter the upper layers of both encoders (Guo and Gu, Multi-Modal Representation Learning)."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.dataset import hand_template
from learning.keys import check_depth, precision
from prompting import Insertions, hard_programs, learned, unit

SCALE = 100.0  # of the cosines, whatever CLIP's own is


class RepresentationLearner(nn.Module):
    """Tokens of a space of their own and their projections into both encoders; names as in the repository MMRL.

    Attributes:
        compound_rep_tokens: [n, d].
        compound_rep_tokens_r2tproj, …r2vproj: for each listed layer a linear d -> D, d -> W; alike at the start.
        proj_rep: [W, E], the image encoder's output projection for representation tokens.
    """

    def __init__(self, n, dim, layers, text_width, image_width, embed_dim):
        super().__init__()
        self.compound_rep_tokens = nn.Parameter(torch.randn(n, dim) * 0.02)
        text, image = nn.Linear(dim, text_width), nn.Linear(dim, image_width)
        copies = lambda one: nn.ModuleList(copy.deepcopy(one) for _ in range(layers))  # noqa: E731
        self.compound_rep_tokens_r2tproj, self.compound_rep_tokens_r2vproj = copies(text), copies(image)
        self.proj_rep = nn.Parameter(torch.randn(image_width, embed_dim) * image_width**-0.5)

    def rows(self, projections, layers):
        """{layer: the tokens there}"""
        return {layer: project(self.compound_rep_tokens) for layer, project in zip(layers, projections, strict=True)}


@TRAINER_REGISTRY.register()
class MMRL(PromptTrainer):
    """α · CE of the class token + (1 - α) · CE of the representation tokens + λ · their distances to CLIP's features.

    Known classes are predicted by both (α and 1 - α), others by the class token alone. TASK says which there are: B2N, all but
    ``DATASET.SUBSAMPLE_CLASSES new``; FS, all; CD, those of ImageNet.
    """

    section = "MMRL"
    takes_several_labels = True
    model_name = "MultiModalRepresentationLearner"
    image_learning = ImageLearning.ADAPTERS
    epochs_only_in_schedule = True
    published_names = {
        r"representation_learner\.(compound_rep_tokens.*)": r"\1",
        r"image_encoder\.(proj_rep)": r"\1",
    }

    @staticmethod
    def extend_cfg(cfg):
        cfg.TASK = key("B2N", "base-to-new, few-shot or cross-dataset: which classes MMRL counts as known",
                       choices=("B2N", "FS", "CD"), reader="MMRL")  # fmt: skip
        cfg.TRAINER.MMRL = section(
            PREC=precision("amp"),
            ALPHA=key(0.7, "weight of the class token, in the loss and in predictions", low=0.0, high=1.0),
            REG_WEIGHT=key(1.0, "λ, weight of the distances to CLIP's own features", low=0.0, high=1e6),
            N_REP_TOKENS=key(5, "representation tokens", low=1, high=1000),
            REP_DIM=key(512, "their width", low=1, high=4096),
            REP_LAYERS=key([6, 7, 8, 9, 10, 11, 12], "layers of both encoders that they enter, counted from 1", low=1, high=1000),
        )

    def build_learner(self, classnames):
        o, clip = self.options, self.clip
        layers = list(o.REP_LAYERS)
        if not layers or layers != sorted(set(layers)):
            raise UserError(f"TRAINER.MMRL.REP_LAYERS {layers}: name each layer once, in ascending order")
        check_depth("TRAINER.MMRL.REP_LAYERS", layers[-1], len(clip.text.blocks), "the text tower")
        check_depth("TRAINER.MMRL.REP_LAYERS", layers[-1], len(clip.image_blocks), "the image encoder")
        self.layers = [layer - 1 for layer in layers]
        template, n = hand_template(self.cfg), o.N_REP_TOKENS
        programs = hard_programs(template, classnames, clip.tokenizer)
        joined = [[0, *map(learned, range(n)), *range(1, len(p))] for p in programs]
        self.prompt_plan = self.plan([programs], {self.layers[0]: [joined]})
        self.template_features = self.hard_features([template], classnames)[0]  # [C, E]
        task, dataset = self.cfg.TASK, self.cfg.DATASET
        known = {"B2N": dataset.SUBSAMPLE_CLASSES != "new", "FS": True, "CD": dataset.NAME == "ImageNet"}[task]
        self.alpha = o.ALPHA if known else 1.0
        print(f'Template: "{template}". TASK {task}: ' + ("class and representation tokens" if known else "the class token alone")
              + " decide")  # fmt: skip
        return RepresentationLearner(n, o.REP_DIM, len(layers), clip.width, clip.image_width, clip.embed_dim)

    def text_features(self):
        rows = self.learner.rows(self.learner.compound_rep_tokens_r2tproj, self.layers)
        return self.encode(self.prompt_plan, insertions=Insertions(rows=rows))[0]

    def image_insertions(self):
        return Insertions(rows=self.learner.rows(self.learner.compound_rep_tokens_r2vproj, self.layers))

    def encode_image(self, images):
        """Unit features [b, 2, E] of class and representation tokens; in training [b, 3, E], the third CLIP's own."""
        found = self.clip.encode_patches(images, self.image_insertions(), self.cfg.TRAINER.CHECKPOINTING)
        with self.clip.autocast():
            tokens = self.clip.visual.ln_post(found.inserted).mean(dim=1) @ self.learner.proj_rep
        features = [unit(found.features), unit(tokens)]
        if self.learner.training:
            features.append(self.clip.encode_image(images))
        return torch.stack(features, dim=1)

    def logits(self, image_features, prepared):
        """[B, 2 or 3, E] and [C, E] -> [B, C], fused for known classes."""
        of_class, of_tokens = (SCALE * image_features[:, i] @ prepared.t() for i in (0, 1))
        return self.alpha * of_class + (1 - self.alpha) * of_tokens

    def loss(self, image_features, labels):
        o, text = self.options, self.text_features()
        image, tokens, own = image_features.unbind(dim=1)
        of_class, of_tokens = SCALE * image @ text.t(), SCALE * tokens @ text.t()
        parts = {
            "ce_class": self.class_loss(of_class, labels),
            "ce_rep": self.class_loss(of_tokens, labels),
            "reg_image": 1 - F.cosine_similarity(image, own, dim=1).mean(),
            "reg_text": 1 - F.cosine_similarity(text, self.template_features, dim=1).mean(),
        }
        total = o.ALPHA * parts["ce_class"] + (1 - o.ALPHA) * parts["ce_rep"]
        total = total + o.REG_WEIGHT * (parts["reg_image"] + parts["reg_text"])
        return total, o.ALPHA * of_class + (1 - o.ALPHA) * of_tokens, parts
