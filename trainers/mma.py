"""MMA: adapters beside the upper blocks of both encoders that share a part (Yang et al., Multi-Modal Adapter, CVPR 2024)."""

import torch
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import ImageLearning, PromptTrainer
from learning.keys import precision
from prompting import Insertions, hard_programs


class _Scaled(torch.autograd.Function):
    """x · forward; the gradient is multiplied by ``backward``."""

    @staticmethod
    def forward(ctx, x, forward, backward):
        ctx.scale = backward
        return x * forward

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.scale, None, None


class Bottleneck(nn.Module):
    """Adapter of one tower at one block: ``down`` D -> r, ``up`` r -> D."""

    def __init__(self, width, size):
        super().__init__()
        self.down = nn.Sequential(nn.Linear(width, size), nn.ReLU())
        self.up = nn.Linear(size, width)


class Adapted(nn.Module):
    """scale · up(relu(shared(down(x)))) of x [..., D].

    As published, inside a block its parameters get 1 / scale times their gradient, while the gradient to x is the true one;
    at the embedding (block 0) all gradients are true.
    """

    def __init__(self, own, shared, scale, block):
        super().__init__()
        self.own, self.shared = own, shared
        self.scale, self.enlarged = scale, block > 0

    def forward(self, x):
        x = _Scaled.apply(x, 1.0, self.scale) if self.enlarged else x
        y = self.own.up(self.shared(self.own.down(x)))
        return _Scaled.apply(y, self.scale, 1.0) if self.enlarged else self.scale * y


class AdapterLearner(nn.Module):
    """Adapters under the number of their block, counted from 1; 0 is the embedding."""

    def __init__(self, blocks, text_width, image_width, size):
        super().__init__()
        new = lambda width: nn.ModuleDict({str(i): Bottleneck(width, size) for i in blocks})  # noqa: E731
        self.text_adapter, self.visual_adapter = new(text_width), new(image_width)
        self.shared_adapter = nn.ModuleDict({str(i): nn.Sequential(nn.Linear(size, size), nn.ReLU()) for i in blocks})
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def insertions(self, adapters, scale):
        """Insertions of one tower's ``adapters``."""
        made = {int(i): Adapted(own, self.shared_adapter[i], scale, int(i)) for i, own in adapters.items()}
        return Insertions(embedding=made.pop(0, None), beside={i - 1: adapter for i, adapter in made.items()})


@TRAINER_REGISTRY.register()
class MultiModalAdapter(PromptTrainer):
    """Cross-entropy with frozen prompts; the template is the same for every data set, as published."""

    section = "MMADAPTER"
    model_name = "adapter_learner"
    image_learning = ImageLearning.ADAPTERS
    epochs_only_in_schedule = True
    published_names = {r"(?:adapter_learner\.)?((?:text|visual|shared)_adapter\..+)": r"\1"}

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.MMADAPTER = section(
            TEXT_CTX_INIT=key("a photo of a", "words before the class name"),
            PREC=precision("amp"),
            ADAPTER_START=key(5, "first block with an adapter, counted from 1; 0 is the embedding", low=0, high=1000),
            ADAPTER_END=key(12, "last block with an adapter", low=1, high=1000),
            ADAPTER_DIM=key(32, "width of the adapters", low=1, high=1024),
            ADAPTER_SCALE=key(0.001, "factor on what an adapter adds", above=0.0, high=1e6),
        )

    def build_learner(self, classnames):
        o = self.options
        layers = min(len(self.clip.text.blocks), len(self.clip.image_blocks))
        if not o.ADAPTER_START <= o.ADAPTER_END <= layers:
            raise UserError(
                f"TRAINER.MMADAPTER.ADAPTER_START {o.ADAPTER_START}, ADAPTER_END {o.ADAPTER_END}: both encoders must have these "
                f"blocks, in this order; they have {layers}"
            )
        self.prompt_plan = self.plan([hard_programs(o.TEXT_CTX_INIT + " {}.", classnames, self.clip.tokenizer)])
        blocks = range(o.ADAPTER_START, o.ADAPTER_END + 1)
        return AdapterLearner(blocks, self.clip.width, self.clip.image_width, o.ADAPTER_DIM)

    def text_features(self):
        adapters = self.learner.insertions(self.learner.text_adapter, self.options.ADAPTER_SCALE)
        return self.encode(self.prompt_plan, insertions=adapters)[0]

    def image_insertions(self):
        return self.learner.insertions(self.learner.visual_adapter, self.options.ADAPTER_SCALE)
