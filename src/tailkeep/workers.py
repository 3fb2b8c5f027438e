"""Worker processes and threads: workers leave Ctrl-C to their parent and never outlive it; threads are fixed in number.

Rule: sums differ with the number of threads, so each library that is loaded gets the same number.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from threadpoolctl import threadpool_limits


def end_with(lifeline: Connection) -> None:
    """Die when the parent closes its end or dies itself, even by SIGKILL.

    An orphan must not write where nobody holds the directory, and nobody would look at what it has done.
    """

    def watch() -> None:
        lifeline.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def ignore_sigint() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which reaches the whole group: the parent answers it, afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let each of BLAS, OpenMP and torch that is loaded by now use `threads` threads inside."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(threads):
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
