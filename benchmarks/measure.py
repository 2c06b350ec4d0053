"""Timing two computations against each other, and counting what autograd keeps."""

import contextlib
import statistics
import time
import weakref
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import prompting.clip


def median_times(functions, repeats, device="cpu", clock=time.perf_counter):
    """Median seconds of each function; they take turns, so that a busy machine slows all alike.

    Args:
        functions: callables without arguments; each is called once before measuring.
        repeats: measured calls of each.
        clock: function that gives seconds; ``time.process_time`` counts this process' own work alone.
    """
    synchronise = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    times = [[] for _ in functions]
    for f in functions:
        f()
    for _ in range(repeats):
        for f, record in zip(functions, times):
            synchronise()
            start = clock()
            f()
            synchronise()
            record.append(clock() - start)
    return [statistics.median(record) for record in times]


def matmul_rate(device="cpu", dtype=torch.float32, size=2048, repeats=5):
    """Floating-point operations a second of a large matrix product: the most that this device, with these threads, gives."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    (seconds,) = median_times([lambda: a @ b], repeats, device)
    return 2 * size**3 / seconds


@contextlib.contextmanager
def as_open_clip_builds_them():
    """Image encoders of CLIPs that are made in this block are open_clip's own, without what this project changes in them."""
    with (
        mock.patch.object(prompting.clip, "rearrange", lambda visual, device: ""),
        mock.patch.object(prompting.clip, "reads_class_token", lambda visual: False),
        mock.patch.object(prompting.clip, "replace_quick_gelu", lambda visual: None),
    ):
        yield


def kept_bytes(function, parameters):
    """Bytes that autograd keeps for backward while ``function`` runs, each storage once, ``parameters`` not counted."""
    known = {p.untyped_storage().data_ptr() for p in parameters}
    kept = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = function()  # alive until counted, so that no address is used twice
    total = sum(kept.values())
    del result
    return total


def relative_error(ours, theirs):
    """Largest difference divided by the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive while it is entered; works on the meta device, too.

    Args:
        known: tensors that are there before and not counted (weights, inputs).

    Attributes:
        now, highest: bytes alive now, and at most so far.
    """

    def __init__(self, known=()):
        super().__init__()
        self.now = self.highest = 0
        self._known = {t.untyped_storage()._cdata for t in known}
        self._alive = {}  # storage: weak reference to it

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor):
                self._add(t.untyped_storage())
        return result

    def _add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._remove(key, size))
        self.now += size
        self.highest = max(self.highest, self.now)

    def _remove(self, key, size):
        del self._alive[key]
        self.now -= size


@torch.no_grad()
def give_all_words_values(table):
    """Random embeddings in place of the zeros of words that a built-in model never met: speed doesn't depend on their values.

    Args:
        table: token embeddings [V, D], written to.
    """
    unmet = table.eq(0).all(dim=1)
    values = torch.randn(int(unmet.sum()), table.shape[1], generator=torch.Generator().manual_seed(0))
    table[unmet] = (0.02 * values).to(table)
