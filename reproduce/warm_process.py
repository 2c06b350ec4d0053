"""The process that ``reproduce.warm`` starts: it imports what train.py needs once, and forks itself for each run.

    python -m reproduce.warm_process SOCKET FOLDER

It reads commands from a socket and starts each in FOLDER. A run is a fork that was made after the imports and before anything
else: no thread of PyTorch's, no random number drawn, no CUDA. It has what a process of its own would have once it has imported
the same modules, and what it changes goes with it. Weights that two runs in a row have read are read once more here, for those
that follow (``basics.inherited``). A command that isn't train.py's, and one whose modules have changed on disk since they were
imported, replaces its fork by a process of its own (``exec``). Linux only.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time

from basics import home, inherited
from basics.parent import end_with_parent
from reproduce.processes import exit_status, python

LONGEST = 1 << 17  # bytes of a message
END_ALL = "end all"  # in the place of a command


def main():
    """Serve; in a fork, do the command and end with its status."""
    server = Server(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(sys.argv[2])
    words = server.serve()
    import train

    end_with(lambda: train.program(words))


def end_with(work):
    """End this fork with the status that ``work()`` returns, or 1 after a traceback.

    Python's own end would clear all modules: a write to every page that is shared with other runs, which takes longer than many a
    run. Threads, exit functions, garbage and streams are seen to as Python (and multiprocessing in its forks) does.
    """
    status = 1
    try:
        status = work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        gc.collect()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(status)


class Server:
    """Attributes: children, {process: socket that is told its exit status}; said, what importing printed."""

    def __init__(self, control):
        self.control, self.reports = control, inherited.Reports()
        self.children = {}
        self.said, self.files = b"", None
        self.awake, self.waker = socket.socketpair()  # written to by the system when a child ends
        for end in (self.awake, self.waker):
            end.setblocking(False)

    def serve(self):
        """Fork for each command until the caller has ended. Returns in forks that train.py is to run in: its arguments."""
        interrupts = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runs and for the caller
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the loop is woken: handlers can come in the midst of one another
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        while True:
            ready, *_ = select.select([self.control, self.awake], [], [])
            if self.awake in ready:
                self.awake.recv(LONGEST)
                self.reap()
            if self.control not in ready:
                continue
            message, descriptors, *_ = socket.recv_fds(self.control, LONGEST, 2)
            if not message:
                os._exit(0)  # and the kernel ends all forks
            command = json.loads(message)
            if command == END_ALL:
                self.end_all()
                continue
            warm = command[: len(python("train"))] == python("train") and self.is_warm()
            parent = os.getpid()
            child = os.fork()
            if child:
                self.children[child] = socket.socket(fileno=descriptors[1])
                os.close(descriptors[0])
                continue
            end_with_parent(parent)
            self.become_run(*descriptors, interrupts)
            if warm:
                os.write(1, self.said)
                inherited.report_to(self.reports.descriptor)
                return command[len(python("train")) :]
            os.execv(command[0], command)

    def become_run(self, output, status, interrupts):
        """In a fork: streams, files and signals as a process has them that was started by itself."""
        os.dup2(output, 1)
        os.dup2(output, 2)
        for descriptor in (output, status):
            os.close(descriptor)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in (self.control, self.awake, self.waker, *self.children.values()):
            other.close()
        self.children = {}
        signal.signal(signal.SIGINT, interrupts)

    def is_warm(self):
        """Import what train.py needs, unless that has been done; whether it is there as it is on disk."""
        if self.files is None:
            began, self.files = time.time_ns(), {}
            try:
                with caught_output() as output:
                    import train

                    train.import_methods()
                    import torch.utils.tensorboard  # noqa: F401  which a training run opens; nothing that computes
            except (Exception, SystemExit):
                return False  # a process of its own says what is wrong
            self.said = b"".join(output)
            files = stamps(getattr(module, "__file__", None) for module in list(sys.modules.values()))
            if all(changed < began for changed, *_ in files.values()) and not sys.modules["torch"].cuda.is_initialized():
                self.files = {**files, **stamps(looked_through())}
        if self.files and self.files != {**stamps(self.files), **stamps(looked_through())}:
            self.files = {}
        if self.files and (key := self.reports.wanted()):
            self.prepare(key)
        return bool(self.files)

    def prepare(self, key):
        """Make what runs are to inherit. Where that prints, or starts threads, which forks lack, no run is forked any more."""
        import torch
        from threadpoolctl import threadpool_limits

        torch.get_num_threads()  # PyTorch decides now, and not under the limit
        threads = lasting_threads()
        with caught_output() as output, threadpool_limits(1, user_api="openmp"), torch.random.fork_rng(devices=[]):
            with contextlib.suppress(Exception):  # a run says what is wrong
                self.reports.make(key)
        if any(output) or lasting_threads() > threads:
            self.files = {}

    def reap(self):
        """Tell the exit status of forks that have ended."""
        for child in list(self.children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with self.children.pop(child) as caller, contextlib.suppress(OSError):  # it may have ended, too
                    caller.send(str(exit_status(os.waitstatus_to_exitcode(status))).encode())

    def end_all(self):
        """SIGTERM to all forks."""
        for child in self.children:
            os.kill(child, signal.SIGTERM)


def lasting_threads():
    """Threads of this process that its forks lack: not OpenBLAS' own, it ends them before a fork and starts them where needed."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return len(os.listdir("/proc/self/task"))


@contextlib.contextmanager
def caught_output():
    """Yields a list, in which after the block stands what it wrote to standard output and error, as bytes."""
    kept, output = (os.dup(1), os.dup(2)), []
    with open(os.memfd_create("output"), "w+b") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield output
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            file.seek(0)
            output.append(file.read())


def looked_through():
    """Files in which modules are looked for: a new one may be a method."""
    return [str(path) for folder in ("trainers", "datasets", "foreign") for path in home.listed(folder, "*.py")]


def stamps(files):
    """{file: what changes when it is written to} of those that exist."""
    found = {}
    for file in {*files} - {None}:
        with contextlib.suppress(OSError):
            status = os.stat(file)
            found[file] = status.st_mtime_ns, status.st_size, status.st_ino
    return found


if __name__ == "__main__":
    main()
