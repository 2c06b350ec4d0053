"""A tiny dataset of PNG images, and a trainer, written the way files for Dassl are."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer

CLASSES = ["red thing", "green thing", "blue thing"]


@DATASET_REGISTRY.register(force=True)
class TinyPNG(DatasetBase):
    """12 training, 6 validation and 15 test images of three classes, in two domains."""

    def __init__(self, cfg):
        def items(split, per_class):
            return [
                Datum(f"{cfg.DATASET.ROOT}/{split}_{label}_{i}.png", label, i % 2, CLASSES[label])
                for label in range(3)
                for i in range(per_class)
            ]

        super().__init__(train_x=items("train", 4), val=items("val", 2), test=items("test", 5))


class Learner(nn.Module):
    """A linear classifier on pixels, with a frozen scale and a buffer."""

    def __init__(self, n_pixels, n_cls):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_cls, n_pixels) * 0.1)
        self.bias = nn.Parameter(torch.zeros(n_cls))
        self.frozen = nn.Parameter(torch.full((1,), 3.0), requires_grad=False)
        self.register_buffer("mean_pixel", torch.zeros(n_pixels))

    def forward(self, image):
        x = image.flatten(1)
        if self.training:
            self.mean_pixel.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
            # noise from every generator, so that a resume has to restore all of them
            x = x + 0.01 * torch.randn_like(x) + 0.01 * random.random() + 0.01 * np.random.rand()
        return self.frozen * F.linear(x - self.mean_pixel, self.weight, self.bias)


@TRAINER_REGISTRY.register(force=True)
class TinyCoOp(TrainerX):
    """Registers two models with an optimiser each; the second has two parameter groups."""

    def build_model(self):
        cfg = self.cfg
        print("Building custom model")
        n_pixels = 3 * cfg.INPUT.SIZE[0] * cfg.INPUT.SIZE[1]
        self.model = Learner(n_pixels, self.num_classes).to(self.device)
        self.optim = build_optimizer([p for p in self.model.parameters() if p.requires_grad], cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)
        self.adapter = nn.Linear(self.num_classes, self.num_classes).to(self.device)
        groups = [{"params": [self.adapter.weight], "lr": cfg.OPTIM.LR / 10}, {"params": [self.adapter.bias]}]
        self.optim2 = build_optimizer(None, cfg.OPTIM, param_groups=groups)
        self.register_model("adapter", self.adapter, self.optim2, build_lr_scheduler(self.optim2, cfg.OPTIM))
        self.steps = 0
        # state in plain attributes, as methods that average weights over the epochs keep it
        self.counter, self.history = 1, []
        self.average = None

    def forward_backward(self, batch):
        image, label, _ = self.parse_batch_train(batch)
        output = self.adapter(self.model(image))
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        self.steps += 1
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
            self.counter += 1
            self.history.append(loss.detach())
            weights = {key: value.clone() for key, value in self.adapter.state_dict().items()}
            self.average = {k: v + self.average[k] for k, v in weights.items()} if self.average else weights
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def model_inference(self, input):
        return self.adapter(self.model(input))

    def checkpoint_extras(self):
        return {"steps": self.steps, "groups": [["a photo of a {}."], ["{} texture."]]}

    def load_checkpoint_extras(self, extras):
        self.steps = extras["steps"]
