"""ATPrompt on CoOp: attribute words with vectors of their own before the context (Li et al., ATPrompt, ICCV 2025)."""

import torch
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning.dataset import dataset_class
from prompting import attribute_programs

from .coop import ContextLearner, CoOp

MOST = 3  # attributes


class AttributeLearner(ContextLearner):
    """``ctx`` [M, D] and ``ctx_att1`` … ``ctx_att3`` [M_k, D], vectors before each attribute; names as in the repository.

    All three are there, whatever the number of attributes: another data set may have more of them.
    """

    def __init__(self, n_ctx, n_att, width):
        super().__init__((n_ctx, width))
        for k, n in enumerate(n_att, 1):
            setattr(self, f"ctx_att{k}", nn.Parameter(torch.randn(n, width) * 0.01))

    def vectors(self, attributes):
        """The vectors of a prompt with so many attributes, in their order in it: [n, D]."""
        return torch.cat([*(getattr(self, f"ctx_att{k}") for k in range(1, attributes + 1)), self.ctx])


@TRAINER_REGISTRY.register()
class CoOp_ATP(CoOp):
    """[vectors] attribute … [context] class name. — cross-entropy; without USE_ATPROMPT it is CoOp.

    The attributes are TRAINER.ATPROMPT's where ATT_NUM isn't 0, else the data set's own of the published list. A model is
    evaluated with those of the data set that it is tested on, as in the published code.
    """

    published_names = {r"(?:prompt_learner\.)?(ctx(?:_att[123])?)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        ours, each = {"reader": "CoOp_ATP"}, range(1, MOST + 1)
        cfg.TRAINER.ATPROMPT = section(
            USE_ATPROMPT=key(False, "attributes stand in the prompt", binds=True, **ours),
            ATT_NUM=key(0, "number of attributes", low=1, high=MOST, also={0: "the data set's own"}, **ours),
            **{f"N_ATT{k}": key(4, f"vectors before attribute {k}", low=1, high=1000, **ours) for k in each},
            **{f"ATT{k}_TEXT": key("none", f"attribute {k}", also={"none": "none"}, **ours) for k in each},
        )

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        o = cfg.TRAINER.COOP
        if cfg.TRAINER.ATPROMPT.USE_ATPROMPT and (o.CSC or o.CTX_INIT or o.CLASS_TOKEN_POSITION != "end"):
            raise UserError(
                "CoOp_ATP has one context for all classes, before the class name, from a random start: TRAINER.COOP.CSC False, "
                'CTX_INIT "", CLASS_TOKEN_POSITION end'
            )

    def build_learner(self, classnames):
        o = self.cfg.TRAINER.ATPROMPT
        self.attributes = self.chosen_attributes() if o.USE_ATPROMPT else None
        if not o.USE_ATPROMPT:
            return super().build_learner(classnames)
        n_att, n_ctx = [o[f"N_ATT{k}"] for k in range(1, MOST + 1)], self.options.N_CTX
        print(f"Attributes: {', '.join(self.attributes)}\nNumber of context words (tokens): {n_ctx}")
        for word in self.attributes:
            if (count := len(self.clip.tokenizer.encode(word))) > 1:
                print(f'Note: "{word}" has {count} tokens, of which the prompt keeps the first, as published')
        programs = attribute_programs(classnames, self.attributes, n_att, n_ctx, self.clip.tokenizer)
        self.prompt_plan = self.plan([programs])
        return AttributeLearner(n_ctx, n_att, self.clip.width)

    def chosen_attributes(self):
        """The attributes of the run's prompts, in words."""
        o, dataset = self.cfg.TRAINER.ATPROMPT, dataset_class(self.cfg)
        if not o.ATT_NUM:
            found = list(getattr(dataset, "attributes", ()))
            if not found:
                raise UserError(
                    f"no attributes were published for {self.cfg.DATASET.NAME}: name them with TRAINER.ATPROMPT.ATT_NUM and "
                    "ATT1_TEXT (ATT2_TEXT, ATT3_TEXT)"
                )
            return found
        found = [o[f"ATT{k}_TEXT"] for k in range(1, o.ATT_NUM + 1)]
        for k, word in enumerate(found, 1):
            if not word.strip() or word == "none":
                raise UserError(f"TRAINER.ATPROMPT.ATT_NUM {o.ATT_NUM}, but ATT{k}_TEXT is {word!r}: name the attribute")
        return found

    def text_features(self):
        if self.attributes is None:
            return super().text_features()
        return self.encode(self.prompt_plan, self.learner.vectors(len(self.attributes)))[0]

    def checkpoint_extras(self):
        return {**super().checkpoint_extras(), "attributes": self.attributes}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        trained = extras.get("attributes") or []
        if self.attributes is not None and trained != self.attributes:
            new = self.attributes[len(trained) :]
            print(
                f"Trained with the attributes {', '.join(trained) or 'none'}; evaluated with {', '.join(self.attributes)}"
                + (f", and the vectors before {', '.join(new)} are still those of the start" if new else "")
            )
