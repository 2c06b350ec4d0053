"""What trainer files for Dassl take from it beside the main names. The expected numbers were measured with Dassl."""

import random

import pytest
import torch

import dassl.engine.trainer as trainer
from dassl.modeling import NETWORK_REGISTRY, build_network, ops
from dassl.optim.radam import AdamW, PlainRAdam, RAdam


def test_summary_writer_is_where_dassl_has_it():
    from torch.utils.tensorboard import SummaryWriter

    assert trainer.SummaryWriter is SummaryWriter
    with pytest.raises(AttributeError, match="SumaryWriter"):
        trainer.SumaryWriter  # noqa: B018


@pytest.mark.parametrize("optimizer, settings, expected", [
    (RAdam, {}, [1.5384833812713623, 1.1318819522857666]),
    (RAdam, {"weight_decay": 0.1}, [1.4470375776290894, 1.0885851383209229]),
    (PlainRAdam, {"weight_decay": 0.1, "degenerated_to_sgd": False}, [1.9162119626998901, -0.9506440162658691]),
    (AdamW, {"weight_decay": 0.05, "warmup": 5}, [1.4728422164916992, -0.4874592423439026]),
])  # fmt: skip
def test_optimisers(optimizer, settings, expected):
    p = torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    optim = optimizer([p], lr=0.05, **settings)
    for _ in range(12):
        optim.zero_grad()
        ((p - 1) ** 2 * torch.tensor([1.0, 3.0])).sum().backward()
        optim.step()
    assert p.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("layer, mix, expected", [
    (ops.MixStyle, "random", [0.30648717284202576, 0.14029420912265778, -0.20208047330379486, -0.3087438941001892]),
    (ops.MixStyle, "crossdomain", [0.32239004969596863, 0.13630911707878113, -0.20538972318172455, -0.2918490171432495]),
    (ops.EFDMix, "random", [-0.4539194405078888, 0.14037354290485382, 0.12206484377384186, -0.3087439239025116]),
    (ops.EFDMix, "crossdomain", [0.7969940304756165, 0.6045063138008118, 0.13774266839027405, 0.0067667365074157715]),
])  # fmt: skip
def test_mixing_layers(layer, mix, expected):
    random.seed(0)
    torch.manual_seed(0)
    ramp = torch.arange(48.0).reshape(4, 2, 2, 3)
    found = (layer(p=1.0, alpha=0.3, mix=mix).train()(ramp.sin()) * ramp.cos()).sum(dim=(1, 2, 3))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind, layer", [("mixstyle", ops.MixStyle), ("efdmix", ops.EFDMix)])
def test_switches_of_mixing_layers(kind, layer):
    other = ops.EFDMix if layer is ops.MixStyle else ops.MixStyle
    model, x = torch.nn.Sequential(layer(p=1.0), other(p=0.0)), torch.randn(4, 2, 3, 3)
    with getattr(ops, f"run_without_{kind}")(model):
        assert torch.equal(model(x), x)
    assert not torch.equal(model(x), x)
    model.apply(getattr(ops, f"deactivate_{kind}"))
    assert torch.equal(model(x), x)
    with getattr(ops, f"run_with_{kind}")(model, "crossdomain"):
        assert model[0].mix == "crossdomain" and model[1].mix == "random" and not torch.equal(model(x), x)
    assert torch.equal(model.eval()(x), x) and torch.equal(model(x), x)


def test_mixup_reversal_and_dynamic_convolution():
    torch.manual_seed(0)
    mixed, labels = ops.mixup(torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1), torch.ones(2, 1), torch.zeros(2, 1), 0.4, True)
    assert mixed.flatten().tolist() == labels.flatten().tolist() == pytest.approx([0.9945433139801025, 0.6775455474853516])
    x = torch.ones(3, requires_grad=True)
    ops.ReverseGrad()(x, 0.7).sum().backward()
    assert x.grad.tolist() == pytest.approx([-0.7] * 3)
    conv = ops.Conv2dDynamic(2, 2, 3, 2, 1, squeeze=1)
    with torch.no_grad():
        for i, p in enumerate(conv.parameters()):
            p.copy_((torch.arange(p.numel()).float() + i).sin().reshape(p.shape))
    expected = [-0.8875119, 5.4149789, 5.5870542, 0.4701943, 0.8413746, 2.9685604, 3.7919721, -3.4674401]
    assert conv(torch.arange(32.0).reshape(1, 2, 4, 4).cos()).flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_networks_are_built_by_name():
    @NETWORK_REGISTRY.register()
    def two_layers(width):
        return torch.nn.Linear(width, 2)

    assert build_network("two_layers", verbose=False, width=3).in_features == 3
