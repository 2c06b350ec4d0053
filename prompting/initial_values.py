"""Models without their random initial values, which the weights of a file replace.

Drawing them takes seconds for a ViT-B/16. They can't just be left out: what is drawn afterwards, such as dropout, depends on how
far PyTorch's generator has come. That is a function of where it was and of the model, so it is kept from run to run.
"""

import base64
import hashlib

import torch
from torch.overrides import TorchFunctionMode

from basics import kept

_FILLING = {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"}


class WithoutDrawing(TorchFunctionMode):
    """Leaves memory as it is where PyTorch would fill it with random numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLING:
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


class ShapesOnly(WithoutDrawing):
    """For the meta device, whose tensors have no values: PyTorch's compiler would write to them and multiply them by numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in ("mul", "__mul__", "__rmul__", "div", "__truediv__") or (name.endswith("_") and not name.endswith("__")):
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            if len(tensors) == 1 and tensors[0].is_meta:
                return tensors[0]
        return super().__torch_function__(func, types, args, kwargs)


def without_drawing(build, identity, ready=None):
    """``build()``, a model whose random values are replaced next; PyTorch's generator is afterwards where drawing them leaves it.

    Args:
        build: function without arguments that builds it on the default device.
        identity: JSON data, of which what ``build`` draws is a function.
        ready: the model, where it is there already: then only the generator moves.
    """
    if torch.get_default_device().type != "cpu":
        return build()
    before = torch.get_rng_state()
    key = {"torch": torch.__version__, "model": identity, "before": hashlib.sha256(before.numpy().tobytes()).hexdigest()}
    after = kept.recall("generator", key)
    if after is None:
        model = build()
        kept.keep("generator", key, _text(torch.get_rng_state()))
        return model if ready is None else ready
    with WithoutDrawing():
        model = build() if ready is None else ready
    torch.set_rng_state(torch.frombuffer(bytearray(base64.b64decode(after)), dtype=torch.uint8))
    return model


def _text(state):
    return base64.b64encode(state.numpy().tobytes()).decode()
