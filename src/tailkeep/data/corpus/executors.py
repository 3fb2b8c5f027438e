"""Executors: they run the work on shards in several processes of this machine, or elsewhere.

Rule: an executor decides when and where a shard is processed, never its result.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import ConfigError
from tailkeep.workers import SPAWN, end_with, process_pool, submit_each

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
        environments = SPAWN.SimpleQueue()
        for environment in self._environments[:workers]:
            environments.put(environment)
        with process_pool(workers, _start, (setup, environments)) as pool:
            pending = submit_each(pool, _work, shards)
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield pending.pop(future), result


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
