"""One run on several processes, as ``torchrun`` starts them: who is who, and what they exchange.

Every process holds the whole model, encodes its part of each batch and of the prompts, and computes the same loss from
what all of them encoded. So only two operators are needed, each the other's mirror image: ``gather`` (rows of all
processes forward, own rows of the gradient backward) and ``shared`` (nothing forward, the sum of all processes'
gradients backward). In a single process every function here returns at once.
"""

import contextlib
import datetime
import os
import sys
import time

import torch
import torch.distributed as dist

from basics import UserError

PATIENCE = datetime.timedelta(hours=2)  # the others wait so long while the first process writes a dataset, say
GRACE = 5.0  # seconds in which the first process may report an error that all of them have

_store = None  # of the job; holds what is said about its errors


class LostProcessError(UserError):
    """Another process of the job has ended; its own message, or torchrun's report, says why."""


def world_size():
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main():
    """Whether this is the process that prints and writes files."""
    return rank() == 0


# ---- the job ----


def join():
    """Meet the other processes of the job that torchrun's environment variables describe."""
    global _store
    try:
        _store = next(dist.rendezvous("env://", timeout=PATIENCE))[0]
    except (RuntimeError, ValueError) as e:
        message = f"WORLD_SIZE is set, but torchrun's other variables don't lead to a job: {_first_line(e)}"
        raise UserError(message) from e


def start(use_cuda):
    """Connect the processes that ``join`` has met; with ``use_cuda`` each takes the GPU of its local rank.

    UserError when a machine has fewer GPUs than processes.
    """
    if _store is None:
        return
    backend = "gloo"
    if use_cuda and torch.cuda.is_available():
        local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"more processes than the {gpus} GPUs of this machine: lower torchrun's --nproc-per-node")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    group_store = dist.PrefixStore("run", _store)
    if os.environ.get("LOCAL_WORLD_SIZE") == str(count):  # one machine: nobody else needs to reach the processes
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo" if sys.platform == "linux" else "lo0")
    with _exchange():
        dist.init_process_group(backend, store=group_store, rank=number, world_size=count, timeout=PATIENCE)


def finish():
    """Leave the job after a run that went well."""
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


def first_report(message):
    """The message that the job stops with, and whether this process prints it.

    ``message`` is what stopped this process. An error that all processes have is reported once, by the first of them
    if it gets there within ``GRACE``; one of a single process ends the others, which learn here what it was.
    """
    if _store is None:
        return message, True
    try:
        deadline = time.monotonic() + (0.0 if os.environ["RANK"] == "0" else GRACE)
        while time.monotonic() < deadline and not _store.add("reported", 0):
            time.sleep(0.05)
        if _store.add("reported", 1) == 1:
            _store.set("message", message)
            return message, True
        _store.wait(["message"], datetime.timedelta(seconds=GRACE))
        return _store.get("message").decode(), False
    except RuntimeError:  # the store went with the job
        return message, True


@contextlib.contextmanager
def _exchange():
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as e:
        raise LostProcessError(
            f"another process of this run has ended ({_first_line(e)}); the same command goes on from the last "
            "checkpoint in its output folder"
        ) from e


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- waiting and agreeing ----


def barrier():
    """Wait for all processes."""
    from_main(0)


@contextlib.contextmanager
def main_first():
    """Run the block in the first process, then in the others: they find what it has written."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def from_main(number):
    """The first process' integer, in every process."""
    if world_size() == 1:
        return number
    value = torch.tensor([number], dtype=torch.int64)
    with _exchange():
        dist.broadcast(value, 0)
    return value.item()


def largest(number):
    """The largest of the processes' integers."""
    if world_size() == 1:
        return number
    value = torch.tensor([number], dtype=torch.int64)
    with _exchange():
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value.item()


@torch.no_grad()
def copy_from_main(tensors):
    """Give every process the first one's values of ``tensors``, in place."""
    if world_size() > 1:
        for tensor in tensors:
            with _exchange():
                dist.broadcast(tensor.data, 0)


# ---- parts of a whole ----


def sizes(count):
    """How many of ``count`` things in a row each process takes; the first ones take what doesn't divide."""
    share, rest = divmod(count, world_size())
    return [share + (number < rest) for number in range(world_size())]


def own_slice(count):
    """The slice of ``count`` things that this process takes."""
    before = sum(sizes(count)[: rank()])
    return slice(before, before + sizes(count)[rank()])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lengths):
        own, longest = lengths[rank()], max(lengths)
        ctx.start, ctx.own, ctx.shape = sum(lengths[: rank()]), own, x.shape
        padded = x.new_zeros(longest, *x.shape[1:])
        padded[:own] = x[:own]
        parts = [torch.empty_like(padded) for _ in lengths]
        with _exchange():
            dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths)])

    @staticmethod
    def backward(ctx, grad):
        own = grad.new_zeros(ctx.shape)
        own[: ctx.own] = grad[ctx.start : ctx.start + ctx.own]
        return own, None


def gather(x, lengths):
    """Rows of all processes, one process after the other.

    Args:
        x: [n, …], the first ``lengths[rank()]`` rows of which count (a process without a share has a stand-in).
        lengths: rows of each process.

    Returns:
        [sum(lengths), …]. Backward, each process takes its own rows of the gradient: for a loss that every process
        computes from the whole.
    """
    return x if world_size() == 1 else _Gather.apply(x, lengths)


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return sum_gradients(grad)


def shared(x):
    """``x``, of which each process uses a part: its gradient is the sum of all processes' gradients."""
    return x if world_size() == 1 else _Shared.apply(x)


def sum_gradients(grad):
    """The sum of all processes' ``grad``; also as a hook of a parameter that each process uses for its own images."""
    total = grad.contiguous().clone()
    with _exchange():
        dist.all_reduce(total)
    return total
