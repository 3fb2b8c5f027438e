"""Shards, or chains of a laboratory, on a Ray cluster: actors that each load the work once.

Rule: scheduling, restarts and lost nodes are Ray's; what is decided here is only who gets the next item.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from typing import Any

from tailkeep.data.corpus.executors import MEANWHILE_SECONDS, EventQueue, Item, Result, WorkerSetup, WorkItem
from tailkeep.errors import ConfigError, TailkeepError, WorkerError
from tailkeep.optional import require
from tailkeep.sanitize import redact

_LOCAL = "local"
# Shards and results are small. Ray's default is a third of the memory, more than many a container's /dev/shm.
_OBJECT_STORE_BYTES = 100 * 2**20
_PATIENCE_SECONDS = 60.0
_KNOCK_SECONDS = 10.0
# Ray uses its retries up within a second on a node that is gone and that it does not know to be gone yet.
_NODE_SECONDS, _NODE_CALLS = 2.0, 30

_log = logging.getLogger(__name__)


class RayActors:
    """An `Executor` of Ray actors. `setup` and results must be picklable, and tailkeep installed on every node.

    An actor whose process or node dies is restarted on any node with free resources, and its item is tried again. The
    cluster is the one that this program is connected to, else that of `address`, else that of RAY_ADDRESS, else one
    on this machine that ends with the work.

    Args:
        workers: actors in parallel; if the cluster has resources for fewer, the others wait.
        cpus: cores that each actor reserves.
        gpus: GPUs that each actor reserves; of these it sees no others.
        attempts: how often an item is begun before the deaths of its actors are blamed on it.
        address: of a running cluster, such as `10.0.0.1:6379` or `auto`.

    Raises:
        MissingPackageError: Ray is not installed.
        ConfigError: a number that is too small.
    """

    def __init__(
        self, workers: int, *, cpus: int = 1, gpus: int = 0, attempts: int = 3, address: str | None = None
    ) -> None:
        for name, number in (("workers", workers), ("cpus", cpus), ("attempts", attempts)):
            if number < 1:
                raise ConfigError(f"{name} must be >= 1, got {number}.")
        self._ray = require("ray", extra="ray")
        self._workers, self._cpus, self._gpus, self._attempts = workers, cpus, gpus, attempts
        self._address = address

    def run(
        self, setup: WorkerSetup[Item, Result], items: Iterable[Item], *, meanwhile: Callable[[], None] | None = None
    ) -> Iterator[tuple[Item, Result]]:
        """See `Executor`.

        Raises:
            WorkerError: actors died at the same item as often as it may be tried.
            ConfigError: the cluster cannot be reached, or none can be started here.
        """
        waiting = iter(items)
        first = list(islice(waiting, self._workers))
        if not first:
            return
        with self._connected():
            kind = self._ray.remote(_Actor).options(
                num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=-1, max_task_retries=self._attempts - 1
            )
            actors = [kind.remote() for _ in first]
            # Not an argument of the constructor: Ray warns that an actor with a queue there may not restart.
            stored = self._ray.put(setup)
            try:
                yield from self._hand_out(actors, stored, chain(first, waiting), meanwhile)
            finally:
                for actor in actors:
                    self._ray.kill(actor)

    @contextmanager
    def open_queue(self) -> Iterator[EventQueue]:
        """See `Executor`; it stays connected to the cluster inside.

        Raises:
            ConfigError: as of `run`.
        """
        from ray.util.queue import Queue

        with self._connected():
            # Without a core of its own it never waits for an actor to end.
            queue = Queue(actor_options={"num_cpus": 0})
            try:
                yield queue
            finally:
                queue.shutdown(force=True)

    def _connected(self) -> AbstractContextManager[None]:
        address = self._address or os.environ.get("RAY_ADDRESS") or _LOCAL
        return _connected(self._ray, address, cpus=self._workers * self._cpus)

    def _hand_out(
        self, actors: Sequence[Any], setup: Any, items: Iterator[Item], meanwhile: Callable[[], None] | None
    ) -> Iterator[tuple[Item, Any]]:
        """Give each actor that is free the next item; one for which the cluster has no room yet never holds any."""
        following = next(items, None)
        processes: dict[Any, str] = {}
        unreached: Counter[Any] = Counter()
        busy: dict[Any, tuple[Any, Item | None]] = {actor.load.remote(setup): (actor, None) for actor in actors}
        self._warn_of_waiting(busy)
        while following is not None or any(item is not None for _, item in busy.values()):
            ready, _ = self._ray.wait(list(busy), timeout=MEANWHILE_SECONDS if meanwhile else None)
            if meanwhile:
                meanwhile()
            if not ready:
                continue
            (done,) = ready
            actor, item = busy.pop(done)
            try:
                process, result = self._answer(done, item)
            except _UnreachedError:
                unreached[actor] += 1
                if unreached[actor] == _NODE_CALLS:
                    raise self._given_up(item) from None
                time.sleep(_NODE_SECONDS)
                busy[actor.load.remote(setup) if item is None else actor.work.remote(setup, item)] = actor, item
                continue
            # Each outage has its own patience.
            unreached.pop(actor, None)
            if processes.setdefault(actor, process) != process:
                processes[actor] = process
                _log.warning("an actor was lost, and another one has taken its place (now %s)", process)
            if following is not None:
                busy[actor.work.remote(setup, following)] = actor, following
                following = next(items, None)
            else:
                # Its place may be the only one left for an actor whose node is gone.
                self._ray.kill(actor)
            if item is not None:
                yield item, result

    def _warn_of_waiting(self, busy: dict[Any, Any]) -> None:
        """Wait until an actor is ready, and say so if that takes long."""
        ready, _ = self._ray.wait(list(busy), timeout=_PATIENCE_SECONDS)
        if not ready:
            _log.warning(
                "no actor is ready after %.0f s. Each requests %d CPUs and %d GPUs; the cluster has %s",
                _PATIENCE_SECONDS, self._cpus, self._gpus, self._ray.cluster_resources(),
            )  # fmt: skip

    def _answer(self, done: Any, item: WorkItem | None) -> tuple[str, Any]:
        errors = self._ray.exceptions
        try:
            return self._ray.get(done)  # type: ignore[no-any-return]
        except errors.RayTaskError as error:
            # What an actor raised, wrapped with its traceback.
            if isinstance(error.cause, TailkeepError):
                raise error.cause from None
            raise
        except (errors.RayActorError, errors.OutOfMemoryError) as error:
            if isinstance(error, errors.ActorUnavailableError) and "failed to connect" in str(error):
                raise _UnreachedError from None
            raise self._given_up(item) from None

    def _given_up(self, item: WorkItem | None) -> WorkerError:
        what = "before any work" if item is None else f"at {redact(item.key)}"
        return WorkerError(
            f"actors died {what}, {self._attempts} times of {self._attempts}, out of memory, or a "
            "node was lost? What is finished is kept: run the same command again to continue."
        )


class _UnreachedError(Exception):
    """The last call never came to its actor, whose node is gone: no fault of the item."""


class _Actor:
    """Does the work of a setup on items in a process of Ray's."""

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None

    def load(self, setup: WorkerSetup[Any, Any]) -> tuple[str, None]:
        """The process that this is, once `setup` is done."""
        self._ready(setup)
        return _process(), None

    def work(self, setup: WorkerSetup[Any, Any], item: Any) -> tuple[str, Any]:
        """The process that this is, and the result for `item`."""
        return _process(), self._ready(setup)(item)

    def _ready(self, setup: WorkerSetup[Any, Any]) -> Callable[[Any], Any]:
        # After a restart the first call may be for an item.
        if self._work is None:
            self._work = setup()
        return self._work


def _process() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"


@contextmanager
def _connected(ray: Any, address: str, *, cpus: int) -> Iterator[None]:
    """Inside, this program is connected to a cluster: its own, one that runs, or a new one with `cpus` cores."""
    if ray.is_initialized():
        yield
        return
    local = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    before = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(local if address == _LOCAL else {}))
    except (ConnectionError, ImportError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(
            f"cannot start Ray on this machine: {reason}. Free memory and disk, or set RAY_ADDRESS to a cluster."
            if address == _LOCAL
            else f"cannot connect to the Ray cluster {redact(address)}: {reason}. Correct RAY_ADDRESS, or unset it."
        ) from None
    try:
        # Ray's own handler would end the program silently, with the exit code of an error.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError unless something answers at `address`: Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
