"""MoCoOp: a router over a mixture of soft prompts (Mixture of prompts learning for vision-language models, 2025).

One soft prompt ("expert") per group of hard templates; a linear router looks at the image and picks k of them. Equations are
the paper's. Where the released code does otherwise, a switch says so; ``configs/trainers/MoCoOp`` has both recipes.
"""

import torch

from basics import UserError
from basics.hashes import digest
from dassl.engine import TRAINER_REGISTRY
from prompting import soft_parts, word_parts

from . import losses, parts
from .conditional import Conditional
from .head import mixture_head
from .reports import Reported
from .routing import RouterUse, TrainingEntropies


@TRAINER_REGISTRY.register()
class MoCoOp(Reported, Conditional):
    """Classification loss + λ1 · router loss + λ2 · text loss (Eq. 10) on a top-k mixture of soft prompts."""

    section = "MOCOOP"
    has_experts = True
    takes_several_labels = True

    extend_cfg = staticmethod(parts.extend_cfg)

    @property
    def max_norm(self):
        """TRAINER.MOCOOP.GRAD_CLIP where gradients are scaled: under fp16, amp and bf16."""
        return self.options.GRAD_CLIP if self.clip.dtype != torch.float32 else 0.0

    # -- building ------------------------------------------------------------------------------------------------------------

    def build_learner(self, classnames):
        groups = self.built_for.get("template_groups")
        return self.learner_for(parts.from_plain(groups) if groups else parts.groups_for(self.cfg))

    def learner_for(self, groups):
        """Set the template groups, compute what depends on them, and return a fresh learner."""
        o = self.options
        if o.TOP_K > len(groups):
            raise UserError(f"TRAINER.MOCOOP.TOP_K {o.TOP_K} is more than the {len(groups)} template groups (experts) there are")
        self.check_text_experts(groups)
        self.groups = groups
        self.aggregate = {}  # weighted sum of what is learned so far; the engine keeps it with checkpoints to resume from
        print(f"{len(groups)} experts, from the first template of each group:")
        for group in groups:
            print(f'  "{group.templates[0]}" ({group.name}, {len(group.templates)} templates)')
        firsts = [g.templates[0] for g in groups]
        words = o.CONTEXT_COUNT == "words"
        own = self.clip.tokenizer
        pieces = [word_parts(t, own)[1::2] if words else soft_parts(t, own)[:2] for t in firsts]
        flat = torch.tensor([i for before, after in pieces for i in before + after], dtype=torch.long, device=self.device)
        self.ctx_before = [before for before, _ in pieces]  # token ids that an expert's first vectors start from
        self.ctx_lengths = [len(before) + len(after) for before, after in pieces]
        self._partial_plans = {}
        self.entropies = TrainingEntropies()
        self._targets = None  # hard features, computed when training first asks for them
        self.check_switches()
        self.plan_classes()
        blocks = self.clip.image_blocks if o.TUNE_LAYERNORM else []
        sizes = len(groups), self.clip.embed_dim
        return parts.MixtureLearner(self.clip.text.embed(flat), *sizes, o, blocks, self.new_image_prompts())

    # -- features ------------------------------------------------------------------------------------------------------------

    def text_features(self):
        if self.options.META_NET:
            raise NotImplementedError("with TRAINER.MOCOOP.META_NET each image has text features of its own")
        return self.expert_features(self.class_plan)

    def prepare(self):
        use = RouterUse([g.name for g in self.groups], self.options.TOP_K)
        if self.options.META_NET:  # nothing outlives an image
            return None, None, use
        features = self.text_features()
        return features, losses.gram(features), use

    def logits(self, image_features, prepared):
        """Cosine to the weighted mean of the k chosen experts' unit features, over τ; no [B, C, E] tensor is made."""
        features, gram, use = prepared
        scores = self.learner.router(image_features)
        weights = losses.top_k_weights(scores, self.options.TOP_K)
        if use is not None:
            use.add(scores, weights)
        if features is None:
            return self.scale * self.conditional_cosines(image_features, scores)
        return self.scale * losses.mixture_cosine(image_features, features, weights, gram if self.options.RENORMALISE else None)

    def exported_head(self):
        return mixture_head(self)

    # -- loss ----------------------------------------------------------------------------------------------------------------

    def loss(self, image_features, labels):
        o, targets = self.options, self.training_targets()
        image_features, frozen = self.image_and_frozen(image_features)  # [B, E] each
        scores = self.learner.router(image_features)
        turn = self.experts_in_turn()
        text_features, prepared = None, (None, None, None)
        if not o.META_NET or o.TEXT_LOSS != "none" or o.SELF_REGULARISATION:
            features = self.features_for(targets.plan, scores, turn)  # one pass for both losses
            text_features = features[:, targets.text_rows]
        if not o.META_NET:
            class_features = features[:, targets.class_rows]
            prepared = class_features, losses.gram(class_features), None
        logits = self.logits(image_features, prepared)
        terms = {"loss_cls": self.class_loss(logits, labels)}
        total = terms["loss_cls"]
        routed, found = self.router_terms(scores, image_features, labels)
        terms.update(found)
        total = total + routed
        if o.TEXT_LOSS != "none":
            terms["loss_text"] = self.text_loss(text_features, turn)
            total = total + o.LAMBDA_TEXT * terms["loss_text"]
        if o.SELF_REGULARISATION:
            held, found = self.regularisation(text_features[:, targets.seen], image_features, frozen, logits)
            terms.update(found)
            total = total + held
        return total, logits, terms

    # -- checkpoints carry the template groups -------------------------------------------------------------------------------

    def made_from(self):
        groups = parts.to_plain(self.groups)
        return {**super().made_from(), "template groups": f"{len(groups)} with sha256 {digest(groups)}"}

    def checkpoint_extras(self):
        return {"template_groups": parts.to_plain(self.groups)}

    def load_checkpoint_extras(self, extras):
        """Prompts and router of the checkpoint's own groups are evaluated, whatever file this dataset has."""
        groups = parts.from_plain(extras.get("template_groups"))
        if groups != self.groups:
            print("Using the checkpoint's template groups")
            self.learner = self.learner_for(groups)
            self.register_learner()
