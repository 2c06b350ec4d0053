"""CLIP's own text features, from which TaskRes and CLAP start to learn something for each class."""

import torch

from basics import UserError
from basics.hashes import file_hash
from dassl.utils import load_checkpoint
from prompting import SELECTED_TEMPLATES

from .class_rows import ClassRows
from .dataset import hand_template


class BaseText(ClassRows):
    """Part of methods whose learner has a buffer ``base_text_features`` [C, E], before PromptTrainer among a class's bases.

    A checkpoint holds these features, and they are evaluated with what was learned on them, whatever the templates of another
    data set are. Classes that it doesn't know have their own features and nothing that was learned.

    ``options.ENHANCED_BASE`` names a file of the repository TaskRes whose text projection takes the place of CLIP's. The
    published code takes it in fp16 only and passes it over without a word in other precisions; here it always counts.
    """

    def base_templates(self):
        """The data set's template; on ImageNet the seven selected ones before it."""
        own = [hand_template(self.cfg)]
        return [*SELECTED_TEMPLATES, *own] if self.cfg.DATASET.NAME == "ImageNet" else own

    def base_text(self, classnames):
        """Text features [T, C, E] of each template, not normalised; the names keep their underscores, as published."""
        templates = self.base_templates()
        print("Templates: " + ", ".join(f'"{t}"' for t in templates))
        if self.options.ENHANCED_BASE != "none":
            self._enhance(self.options.ENHANCED_BASE)
        features = self.hard_features(templates, classnames, raw=True, underscores=True).float()
        self.own_base_text = features.mean(dim=0).cpu()  # [C, E]
        return features

    def _enhance(self, path):
        projection = self.clip.text.text_projection
        state = load_checkpoint(path).get("state_dict")
        weight = state.get("weight") if isinstance(state, dict) else None
        if not isinstance(weight, torch.Tensor) or getattr(projection, "shape", None) != weight.t().shape:
            found = f"the shape {tuple(weight.shape)}" if isinstance(weight, torch.Tensor) else "no state_dict with a weight"
            expected = f"[{self.clip.embed_dim}, {self.clip.width}]"
            raise UserError(f"TRAINER.{self.section}.ENHANCED_BASE {path}: has {found}, expected a weight {expected}")
        print(f"Enhanced base: the text projection of {path}")
        projection.data.copy_(weight.t())

    def made_from(self):
        path = self.options.ENHANCED_BASE
        return {**super().made_from(), **({} if path == "none" else {"enhanced base": f"sha256 {file_hash(path)}"})}

    def unlearned_rows(self, entry, like):
        if entry == "base_text_features":
            return self.own_base_text.to(like.dtype).clone()
        return super().unlearned_rows(entry, like)
