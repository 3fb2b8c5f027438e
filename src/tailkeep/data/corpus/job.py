"""A job over the shards of a corpus, from its checks to its totals. Edit, audit and forecast are such jobs.

Rules: a shard is finished when `manifest.declare_finished` has written its manifest. The others are processed in any
order, by any number of workers. A worker that would write other bytes raises an error before its first shard.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self, TypeVar

from pydantic import Field

from tailkeep.config import Settings, dump_tree
from tailkeep.data.corpus.destination import Destination, ShardStorage, open_destination
from tailkeep.data.corpus.executors import EventQueue, Executor
from tailkeep.data.corpus.large_files import PART_BYTES, LargeFiles, PartQueue
from tailkeep.data.corpus.manifest import BundleFunction, Manifest, fingerprint_of, finish_bundle, sum_counts
from tailkeep.data.corpus.outcome import RunOutcome
from tailkeep.data.corpus.output_run import (
    Contents,
    OutputRun,
    check_names,
    check_output_outside_input,
    open_output_run,
    read_rejects,
)
from tailkeep.data.corpus.schema import Layout
from tailkeep.data.corpus.shards import Bundle, Shard, ShardList, Task, bundle_shards, shards_of_task
from tailkeep.errors import ConfigError, StorageError, TailkeepError
from tailkeep.runs import Progress, ProgressObserver, RunRecord, hash_tree, no_progress
from tailkeep.runs.progress import report_loops
from tailkeep.runs.storage import keep_journal
from tailkeep.sanitize import redact
from tailkeep.workers import relay

Inputs = str | Path | Sequence[str | Path]
Model = TypeVar("Model")
Outcome = TypeVar("Outcome", covariant=True)


class JobConfig(Settings):
    """The config of a job. A verb adds its own keys, `seed` among them, and, for a job with one, a `prior`.

    Attributes:
        layout: how documents lie in the files.
        part_bytes: work on a file of any format but parquet in parts of so many plain bytes, each up to the end of a
            document; the output is one file again.
        on_error: stop at a document that cannot be read, or reject it into `rejects/` and go on.
    """

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset()
    """The keys that decide whether a run goes on, never what a finished shard holds."""

    layout: Layout = Layout()
    part_bytes: Annotated[int, Field(ge=1)] = PART_BYTES

    def fingerprint_tree(self) -> dict[str, Any]:
        """The keys that can change an output, as plain values. The identity of the prior is recorded separately."""
        tree = self.model_dump(mode="json")
        # What they decide are the files and what each is, and those are in the fingerprint.
        del tree["layout"]["format"], tree["layout"]["ignore"]
        return {key: value for key, value in tree.items() if key not in {"prior", *self.not_fingerprinted}}


def dump_config(config: JobConfig) -> str:
    """`config` as YAML that can be loaded again."""
    tree = config.model_dump(mode="json")
    if tree["layout"]["chat"] is not None or tree["layout"]["token_field"] is not None:
        # Beside these the fields of text have no effect, and loading would raise an error.
        del tree["layout"]["text_fields"], tree["layout"]["prompt_fields"]
    return dump_tree(tree)


class ShardJob(Protocol[Model, Outcome]):
    """What a verb such as edit or audit adds to `run_job`. Its `Model` is what all shards need, such as a prior."""

    kind: ClassVar[str]
    """The kind of the run in `run.json`."""
    contents: ClassVar[Contents]
    progress_unit: ClassVar[str]
    """The count of a manifest that progress adds up."""

    @property
    def config(self) -> JobConfig:
        """The config of the run."""

    @property
    def paths(self) -> tuple[str, ...]:
        """All inputs as the user wrote them."""

    def find_shards(self) -> ShardList:
        """The shards of the input, sorted. Checks that the layout fits them."""

    def check_input(self, shards: Sequence[Shard], task_shards: Sequence[Shard]) -> dict[str, Any]:
        """Check the input. Return what else decides the output, as parts of the sources of the run."""

    def load_model(self, task_shards: Sequence[Shard] | None = None) -> Model:
        """Load the model; called once per process. The process of the run gives the shards that the model must fit."""

    def process_sources(self, model: Model) -> dict[str, Any]:
        """The model and the packages of this process: the part of the sources that a worker must share."""

    def for_worker(self, record: RunRecord) -> Self:
        """The job for a worker in another process: `auto` and relative paths are resolved in this one. Picklable."""

    def local_pool(self, workers: int) -> Executor:
        """A pool of processes on this machine."""

    def bundle_function(self, model: Model, record: RunRecord) -> BundleFunction:
        """The function that makes the output of the shards of a bundle."""

    def begin(self, task_shards: Sequence[Shard], output: OutputRun) -> Self:
        """Write what stands in the output before its first shard, and check what needs all of a task's shards.

        Returns:
            The job with what the workers must know of it.
        """

    def conclude(
        self,
        totals: RunOutcome,
        shards: Sequence[Shard],
        manifests: Sequence[Manifest],
        output: OutputRun,
        model: Model | None,
    ) -> Outcome:
        """The outcome. Once every shard is finished, check what needs all of them and write what comes last.

        `model` is None if only the workers loaded it.
        """


@dataclass(frozen=True)
class Execution:
    """How a run is executed. Nothing of it changes a result.

    Attributes:
        workers: number of processes on this machine.
        executor: runs the shards instead, such as `tailkeep.integrations.ray.RayActors`.
        task: the share of the shards to work on.
        observe: called after each finished shard, and inside long ones by executors that hear of it.
        storage: performs the writes; tests pass faulty ones.
        verify: check the sha256 of every finished output first; what is damaged is made again. Without it, this is
            done once all shards are finished, and before parts are joined.
    """

    workers: int = 1
    executor: Executor | None = None
    task: Task | None = None
    observe: ProgressObserver = no_progress
    storage: ShardStorage | None = None
    verify: bool = False

    @property
    def is_inline(self) -> bool:
        """Whether this process works on the shards itself."""
        return self.executor is None and self.workers == 1

    def check_has_effect(self) -> None:
        """Refuse choices of which one would do nothing beside the other.

        Raises:
            ConfigError: several workers and an executor, or a storage that neither would use.
        """
        if self.executor is not None and self.workers != 1:
            raise ConfigError(f"workers={self.workers}, but an executor brings its own workers. Give one of the two.")
        if self.storage is not None and not self.is_inline:
            raise ConfigError("storage works in this process only. Use workers=1 and no executor.")


def path_list(inputs: Inputs) -> tuple[str, ...]:
    """`inputs` as strings."""
    return (str(inputs),) if isinstance(inputs, str | Path) else tuple(str(item) for item in inputs)


def run_job(job: ShardJob[Model, Outcome], out: str | Path, execution: Execution) -> Outcome:
    """Start the run of `job` in `out`, or resume the one that is there.

    Raises:
        TailkeepError: the input or config is bad, `out` holds another run or is busy, or the disk is full.
    """
    execution.check_has_effect()
    check_output_outside_input(out, job.paths)
    shards, task = job.find_shards(), execution.task or Task()
    check_names(shards)
    all_bundles = bundle_shards(shards, small_bytes=job.config.part_bytes, by_side=job.contents.by_side)
    task_bundles = shards_of_task(all_bundles, task)
    task_shards = [shard for bundle in task_bundles for shard in bundle.shards]
    input_sources = job.check_input(shards, task_shards)
    model = job.load_model(task_shards)
    record = _record(job, job.process_sources(model), input_sources, shards)
    config, storage = dump_config(job.config), execution.storage
    with open_output_run(out, record, config=config, task=task, contents=job.contents, storage=storage) as output:
        job = job.begin(task_shards, output)
        files = _large_files(job, output.destination, record)
        damaged = [shard.key for shard in output.remove_damaged(task_shards)] if execution.verify else []
        remaining_bundles = []
        for bundle in task_bundles:
            manifests = [output.finished_manifest(shard) for shard in bundle.shards]
            # A bundle with one shard to be made is made again, which leaves the same bytes.
            remaining_bundles += [] if all(manifests) else [bundle]
            for shard, manifest in zip(bundle.shards, manifests, strict=True):
                if manifest:
                    files.remove_parts(manifest)
                else:
                    damaged += files.remove_damaged(shard) if files.may_have_parts(shard) else []
        local_model: Model | None = None
        run: Callable[[Iterable[Bundle]], Iterator[tuple[Bundle, list[Manifest]]]]
        if execution.is_inline:
            local_model = model
            run = partial(_run_here, _worker(job, model, out, record, execution.observe, storage))
        else:
            executor = execution.executor or job.local_pool(execution.workers)
            setup = partial(_load_worker, job.for_worker(record), output.root or out, record)
            run = partial(_run_elsewhere, executor, setup, execution.observe)
        work = partial(_work, run, files, execution.observe, job.progress_unit)
        # Each worker of a pool loads its own model; memory may not hold another one here.
        del model
        work(remaining_bundles, len(task_shards))
        with output.alone():
            manifests = [output.finished_manifest(shard) for shard in shards]
            if all(manifests):
                # What this process has just written was hashed as it was written.
                known = {shard.key for bundle in remaining_bundles for shard in bundle.shards}
                again = output.remove_damaged([shard for shard in shards if shard.key not in known])
                if again:
                    again_bundles = [bundle for bundle in all_bundles if not set(again).isdisjoint(bundle.shards)]
                    work(again_bundles, sum(len(bundle.shards) for bundle in again_bundles))
                    damaged += [shard.key for shard in again]
                    manifests = [output.finished_manifest(shard) for shard in shards]
                output.destination.remove_journals()
            finished = [manifest for manifest in manifests if manifest is not None]
            return _conclude(job, shards, finished, output, local_model, damaged)


def _run_here(
    work: Callable[[Bundle], list[Manifest]], bundles: Iterable[Bundle]
) -> Iterator[tuple[Bundle, list[Manifest]]]:
    return ((bundle, work(bundle)) for bundle in bundles)


def _run_elsewhere(
    executor: Executor,
    setup: Callable[[EventQueue], Callable[[Bundle], list[Manifest]]],
    observe: ProgressObserver,
    bundles: Iterable[Bundle],
) -> Iterator[tuple[Bundle, list[Manifest]]]:
    with executor.open_queue() as events:
        meanwhile = partial(relay, events, observe)
        yield from executor.run(partial(setup, events), bundles, meanwhile=meanwhile)
        meanwhile()


def _large_files(job: ShardJob[Any, Any], destination: Destination, record: RunRecord) -> LargeFiles:
    return LargeFiles(destination, record.fingerprint, job.config.layout, job.config.part_bytes)


def _work(
    run: Callable[[Iterable[Bundle]], Iterator[tuple[Bundle, list[Manifest]]]],
    files: LargeFiles,
    observe: ProgressObserver,
    unit: str,
    bundles: Sequence[Bundle],
    total: int,
) -> None:
    """Finish `bundles`, the rest of `total` shards; call `observe` at the start, inside and after each bundle."""
    remaining = sum(len(bundle.shards) for bundle in bundles)
    done = total - remaining
    progress = Progress(done, total, "shards", done, 0, unit.partition("_")[0])
    observe(progress)
    if not bundles:
        return
    with files.destination.scratch() as folder:
        queue = PartQueue(bundles, files, folder)
        with closing(queue.units()) as units:
            for bundle, manifests in run(units):
                queue.take(bundle, manifests)
                amount = progress.amount + sum(int(manifest.counts[unit]) for manifest in manifests)
                progress = replace(progress, done=done + len(queue.finished), amount=amount)
                observe(progress)
        assert len(queue.finished) == remaining, "every shard that was handed out is finished"
        if progress.done < total:
            # The last parts of the last file were finished by an earlier run.
            observe(replace(progress, done=total))


def _record(
    job: ShardJob[Any, Any],
    process_sources: Mapping[str, Any],
    input_sources: Mapping[str, Any],
    shards: Sequence[Shard],
) -> RunRecord:
    config = job.config.fingerprint_tree()
    shards_tree = {
        "shards": len(shards),
        "bytes": sum(shard.size for shard in shards),
        "hash": hash_tree({shard.key: shard.sources() for shard in shards}),
    }
    sources = {
        "config": config,
        **process_sources,
        **input_sources,
        "input": {**shards_tree, **input_sources.get("input", {})},
    }
    return RunRecord.of(job.kind, sources, installed=process_sources["packages"], seeds=(config["seed"],))


def _load_worker(
    job: ShardJob[Any, Any], out: str | Path, record: RunRecord, events: EventQueue
) -> Callable[[Bundle], list[Manifest]]:
    """Load the model in a worker process, which reports progress to `events`; called once per process.

    Raises:
        InputError: the worker's model or packages differ from those of the run.
        TailkeepError: the worker cannot open the model or the output.
    """
    model = job.load_model()
    record.check_same_sources(job.process_sources(model))
    return _worker(job, model, out, record, events.put)


def _worker(
    job: ShardJob[Model, Any],
    model: Model,
    out: str | Path,
    record: RunRecord,
    observe: ProgressObserver,
    storage: ShardStorage | None = None,
) -> Callable[[Bundle], list[Manifest]]:
    """The function with which a worker processes a bundle and declares it finished; `observe` sees it at work."""
    work = job.bundle_function(model, record)
    destination = open_destination(out, storage=storage)
    files = _large_files(job, destination, record)

    def finish(shards: Sequence[Shard]) -> list[Manifest]:
        failures = record_failure(shards, destination, record) if job.contents.failures else nullcontext()
        fingerprints = [fingerprint_of(shard, record.fingerprint) for shard in shards]
        name = fingerprints[0] if len(shards) == 1 else hash_tree({"bundle": fingerprints})
        with failures, report_loops(shards[0].key, observe), keep_journal(destination.journal(name)):
            return finish_bundle(shards, work, destination, fingerprints=fingerprints)

    def work_on(bundle: Bundle) -> list[Manifest]:
        if len(bundle.shards) > 1:
            return finish(bundle.shards)
        return [files.finish(bundle.shards[0], lambda shard: finish([shard])[0])]

    return work_on


@contextmanager
def record_failure(shards: Sequence[Shard], destination: Destination, record: RunRecord) -> Iterator[None]:
    """Write the error that stops the work on each of `shards` to `failures/<key>.json`, until the shard is finished.

    Raises:
        TailkeepError: whatever was raised inside.
    """
    try:
        yield
    except TailkeepError as error:
        tree = {"fingerprint": record.fingerprint, "error": redact(str(error))}
        texts = {
            f"failures/{shard.key}.json": json.dumps({"shard": shard.key, **tree}, ensure_ascii=False, indent=2) + "\n"
            for shard in shards
        }
        # A disk that is full has no space for these files either. The first error is the one to raise.
        with suppress(StorageError):
            destination.write_texts(texts)
        raise
    for shard in shards:
        destination.remove(f"failures/{shard.key}.json")


def _conclude(
    job: ShardJob[Model, Outcome],
    shards: ShardList,
    finished: Sequence[Manifest],
    output: OutputRun,
    model: Model | None,
    damaged: Sequence[str],
) -> Outcome:
    # The manifest of a joined file stands for all its parts.
    manifests = list({manifest.shard: manifest for manifest in finished}.values())
    rejects = read_rejects(manifests, output)
    counts = sum_counts(manifests)
    totals = RunOutcome(
        output.record.fingerprint, len(shards), len(finished), counts, rejects, shards.ignored, tuple(damaged)
    )
    return job.conclude(totals, shards, manifests, output, model)
