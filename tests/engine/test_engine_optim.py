"""Learning rates are the published ones, and a scheduler's state is plain numbers that resume exactly."""

import json
import re

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError, load_checkpoint


def optim_cfg(**settings):
    cfg = get_cfg_default().OPTIM
    cfg.NAME, cfg.LR, cfg.LR_SCHEDULER = "sgd", 0.002, "cosine"
    for key, value in settings.items():
        cfg[key] = value
    return cfg


def build(cfg, lrs):
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs]
    optim = build_optimizer(None, cfg, param_groups=groups)
    return optim, build_lr_scheduler(optim, cfg)


def run(cfg, epochs, lrs=(0.002,)):
    optim, sched = build(cfg, lrs)
    rates = []
    for _ in range(epochs):
        rates.append([group["lr"] for group in optim.param_groups])
        optim.step()
        sched.step()
    return rates


def test_published_schedules(golden_file):
    golden = json.loads(golden_file("lr_schedules.json").read_text())
    schedules = {name: rates for name, rates in golden.items() if name != "closed_form_max_abs_err"}
    assert schedules
    for name, expected in schedules.items():
        epochs, warmup = map(int, re.search(r"T(\d+)_w(\d+)", name).groups())
        expected = torch.tensor(expected, dtype=torch.float64).reshape(epochs, -1)
        cfg = optim_cfg(
            MAX_EPOCH=epochs,
            WARMUP_EPOCH=warmup,
            WARMUP_TYPE="linear" if "linear" in name else "constant",
            WARMUP_RECOUNT="norecount" not in name,
        )
        base = expected[warmup].tolist()  # the first epoch after the warm-up has the base rates
        rates = torch.tensor(run(cfg, epochs, base), dtype=torch.float64)
        torch.testing.assert_close(rates, expected, rtol=1e-12, atol=0, msg=name)


def test_step_schedules_are_torchs():
    for name, stepsize, theirs in [
        ("single_step", (3,), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.1)),
        ("multi_step", (2, 5), lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.1)),
    ]:
        rates = run(optim_cfg(LR_SCHEDULER=name, STEPSIZE=stepsize), 8)
        optim = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.002)
        sched, expected = theirs(optim), []
        for _ in range(8):
            expected.append([optim.param_groups[0]["lr"]])
            optim.step()
            sched.step()
        assert rates == [pytest.approx(e, rel=1e-12) for e in expected]


@pytest.mark.parametrize("done", [0, 1, 3, 7])
def test_resumed_schedule_continues(done):
    cfg = optim_cfg(MAX_EPOCH=10, WARMUP_EPOCH=2, WARMUP_TYPE="constant")
    whole = run(cfg, 10, (0.002, 0.0002))
    optim, sched = build(cfg, (0.002, 0.0002))
    for _ in range(done):
        optim.step()
        sched.step()
    state = json.loads(json.dumps(sched.state_dict()))  # plain numbers
    optim, sched = build(cfg, (0.002, 0.0002))
    sched.load_state_dict(state)
    rates = []
    for _ in range(done, 10):
        rates.append([group["lr"] for group in optim.param_groups])
        optim.step()
        sched.step()
    assert rates == whole[done:]


def test_published_scheduler_state_continues_unfrozen(golden_file):
    checkpoint = load_checkpoint(golden_file("published/coop_base_seed1_model.pth.tar-10"))
    cfg = optim_cfg(MAX_EPOCH=20, WARMUP_EPOCH=1, WARMUP_TYPE="constant")
    optim, sched = build(cfg, (0.002,))
    sched.load_state_dict(checkpoint["scheduler"])
    whole = run(cfg, 20)
    assert optim.param_groups[0]["lr"] == whole[10][0]
    optim.step()
    sched.step()
    assert optim.param_groups[0]["lr"] == whole[11][0] != whole[10][0]


@pytest.mark.parametrize("name", ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"])
def test_optimizers_learn_and_resume(name):
    model = nn.Linear(3, 1)
    optim = build_optimizer(model, optim_cfg(NAME=name, LR=0.01))
    before = model.weight.clone()
    for _ in range(2):
        model(torch.ones(1, 3)).sum().backward()
        optim.step()
    assert not torch.equal(model.weight, before)
    build_optimizer(model, optim_cfg(NAME=name)).load_state_dict(optim.state_dict())


def test_staged_lr():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "classifier": nn.Linear(2, 2)})
    optim = build_optimizer(model, optim_cfg(STAGED_LR=True, NEW_LAYERS="classifier", BASE_LR_MULT=0.1))
    assert [group["lr"] for group in optim.param_groups] == [pytest.approx(0.0002), 0.002]
    assert optim.param_groups[1]["params"][0] is model["classifier"].weight


def test_unknown_names_are_errors_with_the_nearest():
    with pytest.raises(UserError, match="did you mean sgd"):
        build_optimizer(nn.Linear(1, 1), optim_cfg(NAME="sgdd"))
    with pytest.raises(UserError, match="did you mean cosine"):
        build(optim_cfg(LR_SCHEDULER="cosin"), (0.1,))
