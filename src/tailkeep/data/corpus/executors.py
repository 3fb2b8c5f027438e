"""Who works on shards: this process, or several on this machine.

Rule: an executor decides when and where, never what: each shard's result is the same from all of them.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import ConfigError, WorkerError
from tailkeep.workers import end_with, ignore_sigint

Result = TypeVar("Result")
WorkerSetup = Callable[[], Callable[[Shard], Result]]
"""Called once in each worker, where it loads what all shards need; what it returns is called for each shard."""


class Executor(Protocol):
    """Runs work on shards."""

    def run(self, setup: WorkerSetup[Result], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Result]]:
        """Each shard and its result, as they are done. The first error ends the rest; what failed is not tried again.

        Raises:
            WorkerError: a worker was ended from outside, and nobody could take its place.
        """


class Inline:
    """Works in this process, one shard after the other."""

    def run(self, setup: WorkerSetup[Result], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Result]]:
        """See `Executor`."""
        work = setup()
        for shard in shards:
            yield shard, work(shard)


class LocalPool:
    """Works in processes of this machine. `setup` and results must be picklable.

    `environments` are variables to set in one worker each, such as CUDA_VISIBLE_DEVICES; there are as many as workers.
    """

    def __init__(self, workers: int, *, environments: Sequence[Mapping[str, str]] = ()) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be >= 1, got {workers}.")
        if environments and len(environments) != workers:
            raise ConfigError(f"{len(environments)} environments for {workers} workers. Give one for each.")
        self._environments = [dict(environment) for environment in environments] or [{}] * workers

    def run(self, setup: WorkerSetup[Result], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Result]]:
        """See `Executor`."""
        if not shards:
            return
        workers = min(len(self._environments), len(shards))
        context = multiprocessing.get_context("spawn")
        environments = context.SimpleQueue()
        for environment in self._environments[:workers]:
            environments.put(environment)
        lifeline, held = context.Pipe(duplex=False)
        arguments = (setup, environments, lifeline)
        pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=arguments)
        waiting: dict[Future[Any], Shard] = {}
        with lifeline, held, pool:
            try:
                with ignore_sigint():
                    waiting |= {pool.submit(_work, shard): shard for shard in shards}
                # The executor lists the processes that it watches before a submission starts one, so it would miss
                # the death of the last. One more submission, when all are there, makes it look again.
                pool.submit(os.getpid)
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield waiting.pop(future), result
            except BrokenProcessPool:
                raise WorkerError(
                    "a worker process was killed (out of memory?). "
                    "Run the same command again to go on, with fewer workers if that was it."
                ) from None
            finally:
                # Nobody waits for a shard whose result no longer matters: what is finished has its manifest.
                if waiting:
                    held.close()


_worker: dict[str, Callable[..., Any]] = {}
"""What a worker process has: its `setup` and then its `work`; empty in any other process."""


def _start(setup: WorkerSetup[Any], environments: Any, lifeline: Connection) -> None:
    end_with(lifeline)
    os.environ.update(environments.get())
    _worker["setup"] = setup


def _work(shard: Shard) -> Any:
    # Not in `_start`: an error there would break the pool and be lost.
    if "work" not in _worker:
        _worker["work"] = _worker["setup"]()
    return _worker["work"](shard)
