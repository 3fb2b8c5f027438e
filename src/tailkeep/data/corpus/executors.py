"""Executors: they run the work on shards in several processes of this machine, or elsewhere.

Rule: an executor decides when and where a shard is processed, never its result.
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
"""Called once per worker: it loads what all shards need and returns the function that is called per shard."""


class Executor(Protocol):
    """Runs work on shards."""

    def run(self, setup: WorkerSetup[Result], shards: Sequence[Shard]) -> Iterator[tuple[Shard, Result]]:
        """Yield each shard and its result, in order of completion. The first error stops the run; nothing is retried.

        Raises:
            WorkerError: a worker was killed and could not be replaced.
        """


class LocalPool:
    """Works in processes of this machine. `setup` and results must be picklable.

    `environments` holds environment variables per worker, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, workers: int, *, environments: Sequence[Mapping[str, str]] = ()) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be >= 1, got {workers}.")
        if environments and len(environments) != workers:
            raise ConfigError(f"environments must be one per worker, got {len(environments)} for {workers} workers.")
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
                # The pool lists the processes that it watches before a submission starts one, so it would miss the
                # death of the last one. One more submission, when all are running, makes it list them again.
                pool.submit(os.getpid)
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield waiting.pop(future), result
            except BrokenProcessPool:
                raise WorkerError(
                    "a worker process was killed (out of memory?). "
                    "Run the same command again to resume, with fewer workers if memory was short."
                ) from None
            finally:
                # Ends the workers: their results no longer matter, and finished shards have their manifests.
                if waiting:
                    held.close()


_worker: dict[str, Callable[..., Any]] = {}
"""In a worker process its `setup`, and later its `work`; empty in any other process."""


def _start(setup: WorkerSetup[Any], environments: Any, lifeline: Connection) -> None:
    end_with(lifeline)
    os.environ.update(environments.get())
    _worker["setup"] = setup


def _work(shard: Shard) -> Any:
    # Not in `_start`, where an error would break the pool and be lost.
    if "work" not in _worker:
        _worker["work"] = _worker["setup"]()
    return _worker["work"](shard)
