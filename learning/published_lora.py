"""CLIP-LoRA's weights as its published code saves them: a file lora_weights.pt in place of a run's folder."""

import os
import re

from basics import UserError
from dassl.engine.checkpoint import load_learned_state, loaded_record, only_user_errors
from dassl.utils import load_checkpoint


class PublishedLoRA:
    """Part of methods whose learner is a ``LowRankLearner``, before PromptTrainer among a class's bases.

    Its options have R, ALPHA, ENCODER, PARAMS and POSITION, which the file also names.
    """

    def load_model(self, directory, epoch=None):
        """As the engine's; ``directory`` may also be a file that the published code saved (lora_weights.pt).

        Raises:
            UserError: the file is none of CLIP-LoRA's, or was trained with other settings.
        """
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


def our_name(match):
    """Our name of "[visual.]transformer.resblocks.0.attn.q_proj.w_lora_A" (``proj``: the output projection)."""
    tower, layer, projection, leaf = match.groups()
    return f"{'image' if tower else 'text'}.{layer}.{projection or 'o'}.{leaf}"


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
