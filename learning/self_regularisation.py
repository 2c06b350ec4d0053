"""Prompts that stay near frozen CLIP, and their mean over epochs (Khattak et al., Self-regulating Prompts, ICCV 2023)."""

import math

import torch
import torch.nn.functional as F

from dassl.config import key


def regularisation_keys(text="TEXT_LOSS_WEIGHT", image="IMAGE_LOSS_WEIGHT"):
    """The published weights; ``text`` and ``image``: what a method calls the keys of the two distances."""
    return {
        text: key(25.0, "weight of the text features' distance to the teacher's", low=0.0, high=1e6),
        image: key(10.0, "weight of the image features' distance to the teacher's", low=0.0, high=1e6),
        "GPA_MEAN": key(15.0, "epoch at which the prompts weigh most in what is evaluated", low=-1e6, high=1e6),
        "GPA_STD": key(1.0, "standard deviation of these weights, in epochs", above=0.0, high=1e6),
    }


def logit_distance(logits, teacher_logits):
    """KL(teacher ‖ ours) of logits [B, C], its mean over batch and classes."""
    return F.kl_div(logits.log_softmax(-1), teacher_logits.log_softmax(-1), reduction="none", log_target=True).mean()


class SelfRegularised:
    """Part of methods with a teacher, CLIP without prompts, before PromptTrainer among a class's bases.

    ``options`` has GPA_MEAN and GPA_STD; ``aggregate`` is {} when the learner is built. What is evaluated and saved at the end is
    the mean of every epoch's parameters, weighted by a Gaussian over epochs.
    """

    averages_epochs = True  # a property where options decide
    has_image_teacher = True  # whether training compares images with frozen CLIP's features of them

    def encode_image(self, images):
        """Unit features [b, E]; in training, with a teacher of images, [b, 2, E], the second ones the teacher's."""
        features = super().encode_image(images)
        if not (self.learner.training and self.has_image_teacher):
            return features
        return torch.stack([features, self.clip.encode_image(images)], dim=1)

    def epoch_weights(self):
        """Weights [MAX_EPOCH] of the epochs' prompts; their sum is 1."""
        mean, std = self.options.GPA_MEAN, self.options.GPA_STD
        exponents = [-((epoch - mean) ** 2) / (2 * std**2) for epoch in range(1, self.max_epoch + 1)]
        highest = max(exponents)
        densities = [math.exp(e - highest) for e in exponents]
        return [d / sum(densities) for d in densities]

    def before_train(self):
        super().before_train()
        if self.averages_epochs:
            weights = self.epoch_weights()
            share = max(weights)
            print(
                f"What is evaluated at the end is the mean over {self.max_epoch} epochs; epoch {weights.index(share) + 1} has "
                f"the largest share, {100 * share:.0f}% (TRAINER.{self.section}.GPA_MEAN, GPA_STD)"
            )

    @torch.no_grad()
    def after_epoch(self):
        if self.averages_epochs:
            self._average()
        super().after_epoch()

    def _average(self):
        weight = self.epoch_weights()[self.epoch]
        for name, p in self.learner.named_parameters():
            self.aggregate[name] = self.aggregate.get(name, 0) + weight * p
        if self.epoch + 1 == self.max_epoch:
            print("The prompts are now the mean over all epochs")
            for name, p in self.learner.named_parameters():
                p.copy_(self.aggregate[name])
