"""A job over the shards of a corpus: what edit and audit bring to it, and the one way in which it is driven to its end.

Rule: a shard is finished when `manifest.read_finished` says so, for it or for the file of which it is a part. What
remains is done in any order, by any number of workers; whoever finishes the last shard writes what needs all of them.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from tailkeep.data.corpus.destination import Destination, ShardStorage
from tailkeep.data.corpus.executors import Executor, Inline, WorkerSetup
from tailkeep.data.corpus.manifest import Manifest, sum_counts
from tailkeep.data.corpus.output_run import Contents, OutputRun, Rejects, open_output_run, read_rejects
from tailkeep.data.corpus.shards import Shard, Task, shards_of_task
from tailkeep.errors import ConfigError
from tailkeep.runs import RunRecord, hash_tree

Inputs = str | Path | Sequence[str | Path]
OutcomeT = TypeVar("OutcomeT")


def path_list(inputs: Inputs) -> list[str]:
    """`inputs` as a list of strings."""
    return [str(inputs)] if isinstance(inputs, str | Path) else [str(item) for item in inputs]


def input_sources(shards: Sequence[Shard]) -> dict[str, Any]:
    """What a fingerprint says of the input."""
    return {
        "shards": len(shards),
        "bytes": sum(shard.size for shard in shards),
        "hash": hash_tree({shard.key: shard.sources() for shard in shards}),
    }


@dataclass(frozen=True)
class RunOutcome:
    """The totals of the finished shards of a run.

    Attributes:
        fingerprint: of the run.
        shards: number of shards of the run, over all tasks.
        finished: number of finished shards.
        counts: totals over the finished shards.
        rejects: the reasons of the rejected documents.
    """

    fingerprint: str
    shards: int
    finished: int
    counts: Mapping[str, int | float]
    rejects: Rejects = field(default_factory=Rejects)

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return self.finished == self.shards

    @property
    def rejected(self) -> int:
        """How many documents are rejected."""
        return int(self.counts.get("rejected", 0))

    def truncation_warnings(self) -> list[str]:
        """A sentence for each file whose end is lost."""
        return [
            f"{name} is torn: everything after the damage is lost. Copy the file again" for name in self.rejects.torn
        ]


@dataclass(frozen=True)
class ShardJob(Generic[OutcomeT]):
    """What a verb brings: a run over `shards`, of which `record` holds all that decides the result.

    Attributes:
        config: content of `config.yaml`.
        contents: the folders that the run fills.
        executor: runs the remaining shards.
        setup: what each worker calls once.
        finished_manifest: (shard, destination) -> the manifest that declares the shard finished, or None.
        conclude: (finished manifests by shard, output) -> the outcome; writes what needs all shards.
        unit: the count of a manifest that progress shows.
        begin: writes what must exist before the first shard.
    """

    record: RunRecord
    config: str
    contents: Contents
    shards: Sequence[Shard]
    executor: Executor
    setup: WorkerSetup[Manifest]
    finished_manifest: Callable[[Shard, Destination], Manifest | None]
    conclude: Callable[[Mapping[str, Manifest], OutputRun], OutcomeT]
    unit: str
    begin: Callable[[OutputRun], None] | None = None


def run_job(
    job: ShardJob[OutcomeT], out: str | Path, *, task: Task, observe: "Observer", storage: ShardStorage | None
) -> OutcomeT:
    """Do what remains of `task`, and conclude.

    Raises:
        TailkeepError: another fingerprint, a busy output or a full disk; whatever the work raises.
    """
    shards = shards_of_task(job.shards, task)
    with open_output_run(
        out, job.record, config=job.config, task=task, contents=job.contents, storage=storage
    ) as output:
        if job.begin:
            with output.alone():
                job.begin(output)
        remaining = [shard for shard in shards if not job.finished_manifest(shard, output.destination)]
        run_shards(job.executor, job.setup, remaining, observe, shards=len(shards), unit=job.unit)
        with output.alone():
            finished = {
                shard.key: manifest
                for shard in job.shards
                if (manifest := job.finished_manifest(shard, output.destination))
            }
            return job.conclude(finished, output)


def totals(
    record: RunRecord, shards: Sequence[Shard], finished: Mapping[str, Manifest], output: OutputRun
) -> dict[str, Any]:
    """The fields of a `RunOutcome`. A manifest that speaks for several shards counts once."""
    manifests = unique_manifests(finished)
    return {
        "fingerprint": record.fingerprint,
        "shards": len(shards),
        "finished": len(finished),
        "counts": sum_counts(manifests),
        "rejects": read_rejects(manifests, output),
    }


def unique_manifests(finished: Mapping[str, Manifest]) -> list[Manifest]:
    """The manifests of the finished shards, each once, in the order of the shards."""
    return list({manifest.shard: manifest for manifest in finished.values()}.values())


@dataclass(frozen=True)
class Progress:
    """How far a task is: shards `done` of `shards`, `resumed` of them by an earlier run; this one did an `amount`."""

    done: int
    shards: int
    resumed: int
    amount: int
    unit: str


Observer = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """The observer that does nothing."""
    del progress


def inline_executor(workers: int, executor: Executor | None, storage: ShardStorage | None) -> Inline | None:
    """The executor of this process if it does the work itself, else None.

    Raises:
        ConfigError: several workers and an executor, or a storage that neither would use.
    """
    if executor is not None and workers != 1:
        raise ConfigError(f"workers={workers}, but an executor brings its own workers. Give one of the two.")
    if storage is not None and (executor is not None or workers != 1):
        raise ConfigError("storage works in this process only. Use workers=1 and no executor.")
    return Inline() if executor is None and workers == 1 else None


def run_shards(
    executor: Executor,
    work: WorkerSetup[Manifest],
    remaining: Sequence[Shard],
    observe: Observer,
    *,
    shards: int,
    unit: str,
) -> None:
    """Have `work` done on the `remaining` shards of a task's `shards`.

    Args:
        executor: who does it.
        work: see `WorkerSetup`.
        remaining: the unfinished shards.
        observe: called with the start and of each finished shard.
        shards: how many the task has, finished ones among them.
        unit: what is counted, one of the counts of a manifest.
    """
    progress = Progress(shards - len(remaining), shards, shards - len(remaining), 0, unit.partition("_")[0])
    observe(progress)
    for _, manifest in executor.run(work, remaining):
        amount = progress.amount + int(manifest.counts[unit])
        progress = replace(progress, done=progress.done + 1, amount=amount)
        observe(progress)


_QUIET_SECONDS = 5.0


def _now() -> float:
    return time.monotonic()


class ProgressPrinter:
    """An observer that prints a line a finished shard, but not more than one every few seconds, and the last always."""

    def __init__(self, clock: Callable[[], float] = _now) -> None:
        self._clock = clock
        self._start = self._printed = clock()

    def __call__(self, progress: Progress) -> None:
        """See `Observer`."""
        now = self._clock()
        worked = progress.done - progress.resumed
        if worked == 0:
            # What came before, such as loading, says nothing of the shards to come.
            self._start = self._printed = now
            if progress.resumed:
                _print(f"{progress.resumed} of {progress.shards} shards were finished before")
            return
        if now - self._printed < _QUIET_SECONDS and progress.done < progress.shards:
            return
        self._printed = now
        seconds = max(now - self._start, 1e-9)
        seconds_left = seconds / worked * (progress.shards - progress.done)
        _print(
            f"{progress.done}/{progress.shards} shards, {progress.amount:,} {progress.unit}, "
            f"{progress.amount / seconds:,.0f} {progress.unit}/s, {seconds:.0f} s, about {seconds_left:.0f} s left"
        )


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
