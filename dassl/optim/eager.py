"""PyTorch's optimisers without PyTorch's compiler, which they import when they are made: it takes longer than PyTorch itself.

Their methods are wrapped so that the compiler leaves them out. Where it hasn't been imported nothing is compiled, and the methods
inside the wrappers do the same; where it has, the wrapped ones are called.
"""

import inspect
import sys

import torch

_COMPILER = "torch._dynamo"


def _directly(cls, name):
    """A method of ``cls`` that calls what is wrapped in it while the compiler isn't there."""
    wrapped = getattr(cls, name)
    inside = inspect.unwrap(wrapped)

    def method(self, *args, **kwargs):
        return (wrapped if _COMPILER in sys.modules else inside)(self, *args, **kwargs)

    return method


class Eager:
    """Stands before a class of optimisers among the bases of another one."""

    zero_grad, add_param_group, state_dict, load_state_dict = (
        _directly(torch.optim.Optimizer, name) for name in ("zero_grad", "add_param_group", "state_dict", "load_state_dict")
    )


def _eager(cls):
    """A subclass of one of PyTorch's optimisers, of the same name."""
    do_step = _directly(cls, "step")

    def step(self, closure=None):
        """Take a step; returns the closure's loss, if there is a closure."""
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return do_step(self, closure)

    return type(cls.__name__, (Eager, cls), {"step": step, "__module__": __name__, "__doc__": cls.__doc__})


SGD, Adam, AdamW, RMSprop = (_eager(getattr(torch.optim, name)) for name in ("SGD", "Adam", "AdamW", "RMSprop"))
