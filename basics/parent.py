"""Processes that end with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # of Linux' prctl


def end_with_parent(parent: int, thread: bool = True) -> None:
    """In a process that ``parent`` has just started: end when that one ends, however it does.

    On Linux the kernel sees to it, at once; elsewhere the process ends if its parent has ended by now.

    Args:
        parent: its process id. One that asks for it here may be too late: where the parent has been killed already, it gets the
            id of the process that has taken it over.
        thread: whether the thread that started this process stays as long as ``parent`` does: for the kernel it is the parent.
    """
    if thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class EndWithMe:
    """Function for ``worker_init_fn`` of a DataLoader that is iterated in this process and thread.

    Args:
        then: a function for the same place, which is called next, or None.
    """

    def __init__(self, then=None):
        self.then, self.parent, self.thread = then, os.getpid(), threading.current_thread() is threading.main_thread()
        self.direct = multiprocessing.get_start_method() != "forkserver"  # whose children are the server's, and end with it

    def __call__(self, worker_id):
        if self.direct:
            end_with_parent(self.parent, self.thread)
        if self.then:
            self.then(worker_id)
