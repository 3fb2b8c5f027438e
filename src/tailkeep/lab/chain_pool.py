"""Chains of a run side by side, in processes of this machine or on a cluster.

Rule: an executor decides when and where a chain is computed, never its result. All of them write into one run
directory, so every machine must see it under the same path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tailkeep.data.corpus.executors import EventQueue, Executor
from tailkeep.errors import ConfigError
from tailkeep.lab.growth import ArmChain, Request, link_first_generations
from tailkeep.lab.learners import environment_of, load_libraries
from tailkeep.lab.loop import Event, Observer
from tailkeep.runs import RunDirectory
from tailkeep.workers import limited_threads, relay

RunChain = Callable[[Request, RunDirectory, ArmChain, Observer, int | None], None]
"""Computes one chain, up to a generation if that is given."""


@dataclass(frozen=True)
class ChainTask:
    """A chain, and the generation at which it stops, if before its end."""

    arm: str
    seed: int
    until: int | None = None

    @property
    def key(self) -> str:
        """How messages name it."""
        return f"{self.arm}, seed {self.seed}"


def run_chains_on(
    executor: Executor,
    run_chain: RunChain,
    request: Request,
    directory: RunDirectory,
    firsts: Sequence[ArmChain],
    observe: Observer,
) -> None:
    """Compute all chains of `request`; those of `firsts` up to generation 0 first, which other arms share.

    Raises:
        WorkerError: a worker was killed and could not be replaced.
        ConfigError: a worker has other packages or another device than this process.
        TailkeepError: as of a chain in this process.
    """
    with executor.open_queue() as events:
        setup = partial(_prepare, run_chain, request, directory.path.resolve(), events)
        meanwhile = partial(relay, events, observe)
        if firsts:
            for _ in executor.run(setup, [ChainTask(*chain, until=1) for chain in firsts], meanwhile=meanwhile):
                pass
            link_first_generations(directory, request)
        for _ in executor.run(setup, [ChainTask(*chain) for chain in request.chains], meanwhile=meanwhile):
            pass
        meanwhile()


def _prepare(run_chain: RunChain, request: Request, out: Path, events: EventQueue) -> Callable[[ChainTask], None]:
    """In a worker: load what the arms compute with; return what computes a chain there."""
    load_libraries(request.config.arms.values())
    _check_environment(request)
    directory = RunDirectory.open(out)

    def work(task: ChainTask) -> None:
        observe: Callable[[Event], None] = events.put
        with limited_threads(request.config.num_threads):
            run_chain(request, directory, (task.arm, task.seed), observe, task.until)

    return work


def _check_environment(request: Request) -> None:
    for name, source in request.sources.items():
        local = environment_of(request.config, request.config.arms[name])
        for key, value in source.environment.items():
            if local.get(key) != value:
                raise ConfigError(
                    f"a worker differs in {key}: {local.get(key)}, where the command has {value}. Install the same "
                    "versions on every machine, and start the command on one of the same kind."
                )
