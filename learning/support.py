"""Methods on frozen features: the support set's features in all views."""

import torch

from dassl.data import build_data_loader, set_loader_epoch

from .image_side import ImageLearning


class RawFeatures:
    """Part of methods that take image features as long as CLIP gives them, before PromptTrainer among a class's bases."""

    image_learning = ImageLearning.NOTHING

    def encode_image(self, images):
        """Features [b, E] of pixels, or CLIP's own features as they are; in fp32, or fp64 where CLIP computes in it."""
        features = images if images.dim() == 2 else self.clip.encode_image(images, raw=True)
        return features if features.dtype == torch.float64 else features.float()


class FrozenFeatures(RawFeatures):
    """Part of methods that learn from features alone. Shapes: V views, N support images."""

    @torch.no_grad()
    def support(self, views):
        """Features [V, N, E], not normalised, and labels [N] of all training images; view v has epoch v's augmentation."""
        own = self.train_loader_x.dataset
        source, size = own.data_source, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        whole = build_data_loader(
            self.cfg, "RandomSampler", source, size, tfm=own.transform, dataset_wrapper=lambda *_, **__: own, share=True,
            drop_last=False,
        )  # fmt: skip
        loader = self.image_features.batches(whole, views=True)
        found, labels = None, None
        for view in range(views):
            set_loader_epoch(whole, view)
            rows = [self._rows_of(batch) for batch in loader]
            features, targets, numbers = (torch.cat(part) for part in zip(*rows, strict=True))
            found = features.new_zeros(views, len(source), features.shape[1]) if found is None else found
            labels = targets.new_zeros(len(source)) if labels is None else labels
            found[view, numbers], labels[numbers] = features, targets
        return found, labels

    def _rows_of(self, batch):
        images, labels = self.parse_batch_train(batch)
        return self.batch_features(images), labels, self.whole_batch(batch["index"].to(self.device))
