"""Tip-Adapter's cache files as its published code writes them: a folder caches/<data set> in place of a run's folder."""

import os

import torch

from basics import UserError
from dassl.engine.checkpoint import load_learned_state, loaded_record, only_user_errors
from dassl.utils import safe_torch_load


class PublishedCache:
    """Part of methods whose learner is a ``Cache``, before KeyValueCache among a class's bases."""

    published_file = ""  # beginning of the name of the file with the keys: "keys_", or "best_F_" for trained ones

    def load_model(self, directory, epoch=None):
        """As the engine's; ``directory`` may also be a folder caches/<data set> of the published code.

        Raises:
            UserError: the folder has values, but no keys; or they don't fit the classes and the width of CLIP.
        """
        values = os.path.join(directory, f"values_{self.cfg.DATASET.NUM_SHOTS}shots.pt") if directory else ""
        if not os.path.isfile(values):
            return super().load_model(directory, epoch)
        path = values.replace("values_", self.published_file)
        if not os.path.isfile(path):
            raise UserError(f"{directory}: has {os.path.basename(values)}, but not {os.path.basename(path)}")
        self._prepared, self._loaded = None, loaded_record(directory, [(self.model_name, path, {})])
        o = self.options
        print(f'Loading the cache of "{path}", with alpha {o.INIT_ALPHA} and beta {o.INIT_BETA} (the file has none)')
        with only_user_errors(path):
            self.load_published(safe_torch_load(path), safe_torch_load(values), path)

    def load_published(self, keys, values, path):
        """Take over keys [N, E], or [E, N] as the training-free variant saves them, and one-hot values [N, C]."""
        keys = keys.detach().float().t() if self.published_file == "keys_" else keys.detach().float()
        expected = (len(keys), len(self.class_features)), self.clip.embed_dim
        if (tuple(values.shape), keys.shape[1]) != expected:
            raise UserError(
                f"{path}: {len(keys)} keys of width {keys.shape[1]} and values {tuple(values.shape)} don't fit these "
                f"{expected[0][1]} classes and the width {expected[1]}"
            )
        self.learner.take(torch.zeros_like(keys), torch.zeros(len(keys)))  # as many as there will be
        state = {"keys": keys, "labels": values.argmax(dim=1), "alpha": self.learner.alpha, "beta": self.learner.beta}
        load_learned_state(self.learner, state, path)
