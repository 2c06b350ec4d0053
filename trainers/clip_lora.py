"""CLIP-LoRA: low-rank changes of the attention's projections in both encoders (Zanella and Ben Ayed, CVPR workshops 2024)."""

import math
import os
import re

import torch
import torch.nn.functional as F
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.checkpoint import load_learned_state, loaded_record, only_user_errors
from dassl.utils import load_checkpoint
from learning import ImageLearning, PromptTrainer
from learning.iterations import ByIterations
from learning.keys import precision
from prompting import Insertions, hard_programs

SCALE = 100.0  # of the cosines, whatever CLIP's own is
TEMPLATE = "a photo of a {}."  # for every data set, as published
POSITIONS = ("all", "bottom", "mid", "up", "half-up", "half-bottom", "top3")


def layers_at(position, count):
    """Numbers of the layers that a position names, of ``count``: thirds, halves, the last three or all."""
    third, half = count // 3, count // 2
    ranges = {"all": (0, count), "bottom": (0, third), "mid": (third, 2 * third), "up": (count - third, count),
              "half-up": (half, count), "half-bottom": (0, half), "top3": (max(0, count - 3), count)}  # fmt: skip
    return range(*ranges[position])


class LowRank(nn.Module):
    """scale · B A drop(x): w_lora_A [r, D] starts at random, w_lora_B [D, r] at zero."""

    def __init__(self, width, rank, scale, dropout):
        super().__init__()
        self.w_lora_A, self.w_lora_B = nn.Parameter(torch.empty(rank, width)), nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.w_lora_A, a=math.sqrt(5))
        self.scale, self.dropout = scale, nn.Dropout(dropout)

    def forward(self, x):
        return self.scale * F.linear(F.linear(self.dropout(x), self.w_lora_A), self.w_lora_B)


class LowRankLearner(nn.Module):
    """Changes of the encoders: {layer: {projection: LowRank}}, both as text."""

    def __init__(self, text, image):
        super().__init__()
        self.text, self.image = nn.ModuleDict(text), nn.ModuleDict(image)


def branches(modules):
    """As ``Insertions.projections``."""
    return {int(layer): dict(parts.items()) for layer, parts in modules.items()}


def our_name(match):
    """Our name of "[visual.]transformer.resblocks.0.attn.q_proj.w_lora_A" (``proj``: the output projection)."""
    tower, layer, projection, leaf = match.groups()
    return f"{'image' if tower else 'text'}.{layer}.{projection or 'o'}.{leaf}"


@TRAINER_REGISTRY.register()
class CLIPLoRA(ByIterations, PromptTrainer):
    """Cross-entropy, with the text features encoded anew in each step.

    In training each class and position has a dropout mask of its own, as published: prompts share nothing then, and a step's text
    side costs as much as plainly. ``SHARE_MASKS`` lets classes share what their prompts have in common, masks included: each
    class's features are distributed as before, but their noise is correlated.
    """

    section = "CLIPLORA"
    takes_several_labels = True
    model_name = "lora"
    published_names = {r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.(?:([qkv])_)?proj\.(w_lora_[AB])": our_name}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.CLIPLORA = section(
            PREC=precision("amp"),
            ENCODER=key("both", "which encoders are changed", choices=("both", "text", "vision")),
            PARAMS=key(["q", "k", "v"], "changed projections of the attention", choices=("q", "k", "v", "o")),
            POSITION=key("all", "layers with changes", choices=POSITIONS),
            R=key(2, "rank of a change", low=1, high=4096),
            ALPHA=key(1.0, "a change is scaled by ALPHA / √R", above=0.0, high=1e6),
            DROPOUT=key(0.25, "rate of dropout before a change", low=0.0, below=1.0),
            SHARE_MASKS=key(False, "classes share dropout masks where their prompts are alike: faster, correlated noise"),
            ITERS_PER_SHOT=key(500, "steps for each shot; 0: OPTIM.MAX_EPOCH epochs", low=0, high=1_000_000),
        )

    @property
    def image_learning(self):
        return ImageLearning.NOTHING if self.options.ENCODER == "text" else ImageLearning.ADAPTERS

    def build_learner(self, classnames):
        o = self.options
        names = sorted(set(o.PARAMS), key="qkvo".index)
        if not names:
            raise UserError("TRAINER.CLIPLORA.PARAMS is empty: name at least one of q, k, v, o")

        def changes(encoder, layers, width):
            if o.ENCODER not in ("both", encoder):
                return {}
            new = lambda: LowRank(width, o.R, o.ALPHA / math.sqrt(o.R), o.DROPOUT)  # noqa: E731
            return {str(i): nn.ModuleDict({name: new() for name in names}) for i in layers_at(o.POSITION, layers)}

        image = {}
        if o.ENCODER != "text":
            image = changes("vision", len(self.clip.image_blocks), self.clip.image_width)
        self.prompt_plan = self.plan([hard_programs(TEMPLATE, classnames, self.clip.tokenizer)])
        return LowRankLearner(changes("text", len(self.clip.text.blocks), self.clip.width), image)

    def text_features(self):
        unshared = self.learner.training and self.options.DROPOUT > 0 and not self.options.SHARE_MASKS
        changed = Insertions(projections=branches(self.learner.text), unshared=unshared and len(self.learner.text) > 0)
        return self.encode(self.prompt_plan, insertions=changed)[0]

    def image_insertions(self):
        return Insertions(projections=branches(self.learner.image)) if len(self.learner.image) else None

    def logits(self, image_features, prepared):
        return SCALE * image_features @ prepared.t()

    def load_model(self, directory, epoch=None):
        """As the engine's; ``directory`` may also be a file that the published code saved (lora_weights.pt)."""
        if not os.path.isfile(directory):
            return super().load_model(directory, epoch)
        saved = load_checkpoint(directory)
        if not isinstance(saved, dict) or not {"weights", "metadata"} <= saved.keys():
            raise UserError(f"{directory}: not a file of CLIP-LoRA's weights")
        self._prepared, self._loaded = None, loaded_record(directory, [(self.model_name, directory, saved)])
        with only_user_errors(directory):
            self.load_published(saved, directory)

    def load_published(self, saved, directory):
        """Take over what the published code saved; UserError where that is of other settings."""
        o = self.options
        ours = {"r": o.R, "alpha": o.ALPHA, "encoder": o.ENCODER, "params": sorted(o.PARAMS), "position": o.POSITION}
        theirs = {**saved["metadata"], "params": sorted(saved["metadata"].get("params", []))}
        different = [f"{name} {theirs.get(name)} (here {value})" for name, value in ours.items() if theirs.get(name) != value]
        if different:
            raise UserError(f"{directory} was trained with other settings: {', '.join(different)}")
        print(f'Loading weights that the published code saved in "{directory}"')
        state = published_state(saved["weights"], list(self.learner.text), list(self.learner.image))
        load_learned_state(self.learner, state, directory)


def published_state(weights, text_layers, image_layers):
    """Our state dict of a file that the published code saves: {"weights": {"layer_3": {"q_proj": {"w_lora_A": …}}}, …}.

    It counts the changed layers, those of the text tower first; ``text_layers`` and ``image_layers`` are their numbers here.
    """
    places = [*(f"text.{layer}" for layer in text_layers), *(f"image.{layer}" for layer in image_layers)]
    found = {}
    for layer, projections in weights.items():
        number = re.fullmatch(r"layer_(\d+)", layer)
        if not number or int(number[1]) >= len(places):
            raise UserError(f"CLIP-LoRA's weights have a {layer}, but {len(places)} layers are changed here")
        for projection, parts in projections.items():
            name = projection.removesuffix("proj").removesuffix("_") or "o"
            found.update({f"{places[int(number[1])]}.{name}.{leaf}": value for leaf, value in parts.items()})
    return found
