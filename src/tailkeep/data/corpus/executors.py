"""Executors: they run the work on shards, or on chains of a laboratory, in several processes here or elsewhere.

Rule: an executor decides when and where an item is processed, never its result.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from tailkeep.errors import ConfigError
from tailkeep.workers import SPAWN, end_with, process_pool, submit_each

Result = TypeVar("Result")
MEANWHILE_SECONDS = 0.1


class WorkItem(Protocol):
    """What is handed to a worker, such as a shard; messages name it by `key`."""

    @property
    def key(self) -> str:
        """The name of the item."""


Item = TypeVar("Item", bound=WorkItem)
WorkerSetup = Callable[[], Callable[[Item], Result]]
"""Called once per worker: it loads what all items need and returns the function that is called per item."""


class EventQueue(Protocol):
    """What workers report, in order; picklable with a `WorkerSetup`."""

    def put(self, event: Any) -> None:
        """Report `event`."""

    def get_nowait(self) -> Any:
        """The oldest event that was not taken yet. Raises queue.Empty where there is none."""


class Executor(Protocol):
    """Runs work on items."""

    def run(
        self, setup: WorkerSetup[Item, Result], items: Iterable[Item], *, meanwhile: Callable[[], None] | None = None
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item and its result, in order of completion. The first error stops the run; nothing is retried.

        Items are taken as workers become free, since some are made only then. `meanwhile` is called every
        `MEANWHILE_SECONDS` while it waits; what that raises stops the run too.

        Raises:
            WorkerError: a worker was killed and could not be replaced.
        """

    def open_queue(self) -> AbstractContextManager[EventQueue]:
        """A queue from the workers of any `run` inside to this process."""


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

    @contextmanager
    def open_queue(self) -> Iterator[EventQueue]:
        """See `Executor`."""
        yield SPAWN.Queue()

    def run(
        self, setup: WorkerSetup[Item, Result], items: Iterable[Item], *, meanwhile: Callable[[], None] | None = None
    ) -> Iterator[tuple[Item, Result]]:
        """See `Executor`."""
        waiting = iter(items)
        first = list(islice(waiting, len(self._environments)))
        if not first:
            return
        environments = SPAWN.SimpleQueue()
        for environment in self._environments[: len(first)]:
            environments.put(environment)
        with process_pool(len(first), _start, (setup, environments)) as pool:
            pending = submit_each(pool, _work, first)
            # One more for each worker waits, so that none does.
            pending |= submit_each(pool, _work, islice(waiting, len(first)))
            while pending:
                timeout = MEANWHILE_SECONDS if meanwhile else None
                finished = wait(pending, timeout, return_when=FIRST_COMPLETED).done
                if meanwhile:
                    meanwhile()
                for future in finished:
                    result = future.result()
                    item = pending.pop(future)
                    pending |= submit_each(pool, _work, islice(waiting, 1))
                    yield item, result


_worker: dict[str, Callable[..., Any]] = {}
"""In a worker process its `setup`, and later its `work`; empty in any other process."""


def _start(setup: WorkerSetup[Any, Any], environments: Any, lifeline: Connection) -> None:
    end_with(lifeline)
    os.environ.update(environments.get())
    _worker["setup"] = setup


def _work(item: WorkItem) -> Any:
    # Not in `_start`, where an error would break the pool and be lost.
    if "work" not in _worker:
        _worker["work"] = _worker["setup"]()
    return _worker["work"](item)
