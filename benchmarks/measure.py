"""Timing two computations against each other, and counting what autograd keeps."""
import statistics
import time

import torch


def median_times(functions, repeats, device="cpu"):
    """Median seconds of each function; they take turns, so that a busy machine slows all alike.

    Args:
        functions: callables without arguments; each is called once before measuring.
        repeats: measured calls of each.
    """
    synchronise = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    times = [[] for _ in functions]
    for f in functions:
        f()
    for _ in range(repeats):
        for f, record in zip(functions, times):
            synchronise()
            start = time.perf_counter()
            f()
            synchronise()
            record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


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
