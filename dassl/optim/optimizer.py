"""Builds an optimiser from ``cfg.OPTIM``."""

import warnings

import torch.nn as nn

from ..utils import check_availability, tolist_if_not
from . import eager
from .radam import RAdam

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(model, optim_cfg, param_groups=None):
    """Return the optimiser ``optim_cfg.NAME`` over a module, an iterable of parameters, or ``param_groups``.

    With ``STAGED_LR``, the children of the module that are not in ``NEW_LAYERS`` learn at LR · BASE_LR_MULT.
    """
    check_availability(optim_cfg.NAME, AVAI_OPTIMS)
    if param_groups is None:
        param_groups = _staged_groups(model, optim_cfg) if optim_cfg.STAGED_LR else model
        if isinstance(param_groups, nn.Module):
            param_groups = param_groups.parameters()
    elif optim_cfg.STAGED_LR:
        warnings.warn("STAGED_LR is ignored: param_groups are given", stacklevel=2)

    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    adam = {
        "betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2),
        "eps": optim_cfg.get("ADAM_EPS", 1e-8),
    }  # Dassl has no such key
    name = optim_cfg.NAME
    if name == "sgd":
        return eager.SGD(
            param_groups, momentum=optim_cfg.MOMENTUM, dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV, **common,
        )  # fmt: skip
    if name == "rmsprop":
        return eager.RMSprop(param_groups, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common)
    if name == "radam":
        return RAdam(param_groups, **adam, **common)
    if name == "adamw":
        return eager.AdamW(param_groups, **adam, **common)
    return eager.Adam(param_groups, **adam, amsgrad=name == "amsgrad", **common)


def _staged_groups(model, optim_cfg):
    if not isinstance(model, nn.Module):
        raise TypeError("STAGED_LR needs the model itself, not its parameters")
    if isinstance(model, nn.DataParallel):
        model = model.module
    new_layers = tolist_if_not(optim_cfg.NEW_LAYERS) if isinstance(optim_cfg.NEW_LAYERS, str) else optim_cfg.NEW_LAYERS
    base_params, new_params = [], []
    for name, module in model.named_children():
        (new_params if name in new_layers else base_params).extend(module.parameters())
    return [{"params": base_params, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new_params}]
