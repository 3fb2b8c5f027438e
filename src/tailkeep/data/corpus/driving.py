"""A task driven to its end: shards are handed to an executor, and whoever watches is told of each that is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tailkeep.data.corpus.destination import ShardStorage
from tailkeep.data.corpus.executors import Executor, Setup
from tailkeep.data.corpus.manifest import Manifest
from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import ConfigError


@dataclass(frozen=True)
class Progress:
    """How far a task is: shards `done` of `shards`, `resumed` of them by an earlier run; this one did an `amount`."""

    done: int
    shards: int
    resumed: int
    amount: int
    unit: str


Observer = Callable[[Progress], None]


def refuse_idle_hands(workers: int, executor: Executor | None, storage: ShardStorage | None) -> None:
    """Refuse ways of working of which one would do nothing beside the other.

    Raises:
        ConfigError: several workers and an executor, or a storage that neither would use.
    """
    if executor is not None and workers != 1:
        raise ConfigError(f"workers={workers}, and an executor brings its own. Give one of the two.")
    if storage is not None and (executor is not None or workers != 1):
        raise ConfigError("a storage of your own works in this process. Use workers=1 and no executor.")


def nobody(progress: Progress) -> None:
    """The observer that looks away."""
    del progress


def drive(
    executor: Executor, work: Setup[Manifest], left: Sequence[Shard], observe: Observer, *, shards: int, unit: str
) -> None:
    """Have `work` done on the shards that are `left` of a task's `shards`.

    Args:
        executor: who does it.
        work: see `Setup`.
        left: what is to be done.
        observe: told of the start and of each finished shard.
        shards: how many the task has, finished ones among them.
        unit: what is counted, one of the counts of a manifest.
    """
    progress = Progress(shards - len(left), shards, shards - len(left), 0, unit.partition("_")[0])
    observe(progress)
    for _, manifest in executor.run(work, left):
        amount = progress.amount + int(manifest.counts[unit])
        progress = replace(progress, done=progress.done + 1, amount=amount)
        observe(progress)
