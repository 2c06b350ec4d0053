"""Optimisers that don't import PyTorch's compiler take the very steps of those that do."""

import subprocess
import sys

import pytest
import torch

from dassl.optim import eager
from dassl.optim.radam import RAdam

SETTINGS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "Adam": {"lr": 0.01, "amsgrad": True},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
    "RMSprop": {"lr": 0.01, "momentum": 0.9},
}


def steps(make):
    """Parameters and state after five steps, a group added and the state read in again midway."""
    torch.manual_seed(0)
    first, second = (torch.nn.Parameter(torch.randn(3, 4)) for _ in range(2))
    optimiser = make([first])
    optimiser.add_param_group({"params": [second], "lr": 0.05})
    for i in range(5):
        optimiser.zero_grad()
        loss = optimiser.step(lambda: backward(first, second)) if i == 3 else None
        assert loss is None or loss.requires_grad
        backward(first, second)
        optimiser.step()
        if i == 2:
            optimiser.load_state_dict(optimiser.state_dict())
    return [first, second, *(v for s in optimiser.state_dict()["state"].values() for v in s.values() if torch.is_tensor(v))]


def backward(first, second):
    loss = (first * second).tanh().sum() + (first**2).sum()
    loss.backward()
    return loss


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_steps(name):
    ours, theirs = (steps(lambda p, of=of: getattr(of, name)(p, **SETTINGS[name])) for of in (eager, torch.optim))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_no_compiler_is_imported():
    code = (
        "import sys; from tests.trainers.test_eager_optimisers import *\n"
        "for name in SETTINGS: steps(lambda p: getattr(eager, name)(p, **SETTINGS[name]))\n"
        "steps(lambda p: RAdam(p, lr=0.1))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "a = steps(lambda p: eager.SGD(p, **SETTINGS['SGD']))\n"
        "import torch._dynamo\n"
        "b = steps(lambda p: eager.SGD(p, **SETTINGS['SGD']))\n"
        "assert all(map(torch.equal, a, b))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


def test_methods_outside_stay_pytorchs():
    assert issubclass(eager.SGD, torch.optim.SGD) and repr(eager.SGD([torch.zeros(1)], lr=1)).startswith("SGD (")
    assert RAdam.__mro__[2] is eager.Eager
