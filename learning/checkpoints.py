"""What a method's checkpoints and records say of CLIP, and how published checkpoints are read."""

import re
from typing import Any

from basics import UserError
from basics.hashes import digest
from dassl.utils import parallel

from .dataset import templates_identity
from .preprocessing import images_record


class Checkpoints:
    """Part of PromptTrainer."""

    weights_of_a_model: tuple[str, ...] = (
        "weights of CLIP", "configuration of CLIP", "activation of CLIP", "tokenizer of CLIP"
    )  # fmt: skip
    published_names: dict[str, Any] = {}  # {pattern of an entry of a published checkpoint: our name, or function of the match}

    def made_from(self):
        weights = self.clip.weights
        found = {
            "weights of CLIP": f"sha256 {weights['state_sha256']}",
            "activation of CLIP": self.clip.activation,
            "tokenizer of CLIP": f"sha256 {digest({**weights['tokenizer'], 'name': ''})}",
            "computed in": str(self.clip.dtype).removeprefix("torch."),
        }
        found.update(templates_identity(self.cfg))
        if "config_sha256" in weights:
            found["configuration of CLIP"] = f"sha256 {weights['config_sha256']}"
        return found

    def weights_record(self):
        return {**self.clip.weights, **images_record(self.cfg, self.clip)}

    def adapt_state_dict(self, name: str, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Entries of a published checkpoint under our names; its frozen entries (CLIP, tokens of classes) are dropped."""
        found = {}
        for entry, value in state_dict.items():
            for pattern, ours in self.published_names.items():
                if match := re.fullmatch(pattern, entry):
                    found[ours(match) if callable(ours) else match.expand(ours)] = value
        return found or {entry: value for entry, value in state_dict.items() if not entry.startswith("token_")}

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        self._prepared = None
        if self.learner is not None:
            super().load_model(directory, epoch)

    def resume_model_if_exist(self, directory):
        self._prepared = None
        epochs = super().resume_model_if_exist(directory)
        if parallel.from_main(epochs) != epochs:
            raise UserError(f"the processes of this run don't see the same checkpoints in {directory}")
        return epochs
