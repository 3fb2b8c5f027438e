"""Worker processes and threads: workers leave Ctrl-C to their parent and never outlive it; threads are fixed in number.

Rule: sums differ with the number of threads, so each library that is loaded gets the same number.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from tailkeep.errors import WorkerError

Item = TypeVar("Item")

SPAWN = multiprocessing.get_context("spawn")
"""New processes that inherit nothing from this one."""


@contextmanager
def process_pool(
    workers: int, initializer: Callable[..., None], arguments: tuple[Any, ...]
) -> Iterator[ProcessPoolExecutor]:
    """Processes that die with this one, or when the block inside raises: finished work is on the disk.

    Args:
        workers: how many.
        initializer: called in each with `arguments` and then the lifeline, which it hands to `end_with`.
        arguments: picklable.

    Raises:
        WorkerError: a process was killed.
    """
    lifeline, held = SPAWN.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, SPAWN, initializer=initializer, initargs=(*arguments, lifeline))
    with lifeline, held, pool:
        try:
            yield pool
        except BrokenProcessPool:
            held.close()
            raise WorkerError(
                "a worker process was killed (out of memory?). "
                "Run the same command again to resume, with fewer workers if memory was short."
            ) from None
        except BaseException:
            held.close()
            raise


def submit_each(
    pool: ProcessPoolExecutor, function: Callable[[Item], Any], items: Iterable[Item]
) -> dict[Future[Any], Item]:
    """Submit `function` of each of `items` to the pool; the items by their futures."""
    with ignore_sigint():
        futures = {pool.submit(function, item): item for item in items}
    if not futures:
        return {}
    # The pool lists the processes that it watches before a submission starts one, so it would miss the death of the
    # last one. One more submission, when all are running, makes it list them again.
    pool.submit(os.getpid)
    return futures


def relay(events: Any, observe: Callable[[Any], None]) -> None:
    """Pass what the workers have put into the queue `events` so far to `observe`."""
    while True:
        try:
            event = events.get_nowait()
        except queue.Empty:
            return
        observe(event)


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


@lru_cache(maxsize=1)
def _threadpools(_modules: int) -> ThreadpoolController:
    """The libraries with threads of their own; looked for again only when more modules are loaded."""
    return ThreadpoolController()


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let each of BLAS, OpenMP and torch that is loaded by now use `threads` threads inside."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with _threadpools(len(sys.modules)).limit(limits=threads):
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let glibc keep up to 62 MiB of freed memory, so that new arrays need no new pages, which the kernel must zero.

    Freeing a mapped block raises two thresholds, see M_MMAP_THRESHOLD in mallopt(3). Elsewhere nothing changes.
    """
    mapped = bytes(31 << 20)
    del mapped
