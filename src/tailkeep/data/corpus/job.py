"""A job over the shards of a corpus, from its checks to its totals. Edit, audit and forecast are such jobs.

Rules: a shard is finished when `manifest.declare_finished` has written its manifest. The others are processed in any
order, by any number of workers. A worker that would write other bytes raises an error before its first shard.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from tailkeep.data.corpus.destination import Destination, ShardStorage, open_destination
from tailkeep.data.corpus.executors import EventQueue, Executor
from tailkeep.data.corpus.large_files import LargeFiles, PartQueue
from tailkeep.data.corpus.manifest import Manifest, fingerprint_of, finish_bundle, input_sha256, sum_counts
from tailkeep.data.corpus.outcome import RunOutcome
from tailkeep.data.corpus.output_run import (
    OutputRun,
    check_names,
    check_output_outside_input,
    open_output_run,
    read_rejects,
)
from tailkeep.data.corpus.shard_job import Execution, JobShards, Model, Outcome, ShardJob, dump_config
from tailkeep.data.corpus.shards import Bundle, Shard, ShardList, Task, bundle_shards, shards_of_task
from tailkeep.errors import StorageError, TailkeepError
from tailkeep.runs import Progress, ProgressObserver, RunRecord, hash_tree
from tailkeep.runs.progress import report_loops
from tailkeep.runs.storage import keep_journal
from tailkeep.sanitize import redact
from tailkeep.workers import relay


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
    task_shards = _shards_in(task_bundles)
    input_sources = job.check_input(shards, task_shards)
    model = job.load_model(task_shards)
    record = _record(job, job.process_sources(model), input_sources, shards)
    config, storage = dump_config(job.config), execution.storage
    with open_output_run(out, record, config=config, task=task, contents=job.contents, storage=storage) as output:
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
        # Each worker of a pool loads its own model; memory may not hold another one here.
        local_model = model if execution.is_inline else None
        del model

        def prepared(bundles: Sequence[Bundle]) -> ShardJob[Model, Outcome]:
            return job.prepare(JobShards(shards, task_shards, _shards_in(bundles)), output)

        def work(job: ShardJob[Model, Outcome], bundles: Sequence[Bundle], total: int) -> None:
            run = _runner(job, local_model, out, output, execution)
            _work(run, files, execution.observe, job.progress_unit, bundles, total)

        prepared_job = prepared(remaining_bundles)
        job.begin(output)
        work(prepared_job, remaining_bundles, len(task_shards))
        with output.alone():
            manifests = [output.finished_manifest(shard) for shard in shards]
            if all(manifests):
                # What this process has just written was hashed as it was written.
                known = {shard.key for shard in _shards_in(remaining_bundles)}
                again = output.remove_damaged([shard for shard in shards if shard.key not in known])
                if again:
                    again_bundles = [bundle for bundle in all_bundles if not set(again).isdisjoint(bundle.shards)]
                    work(prepared(again_bundles), again_bundles, len(_shards_in(again_bundles)))
                    damaged += [shard.key for shard in again]
                    manifests = [output.finished_manifest(shard) for shard in shards]
                output.destination.remove_journals()
            finished = [manifest for manifest in manifests if manifest is not None]
            return _conclude(job, shards, finished, output, local_model, damaged)


def _shards_in(bundles: Iterable[Bundle]) -> list[Shard]:
    return [shard for bundle in bundles for shard in bundle.shards]


def _runner(
    job: ShardJob[Model, Any], model: Model | None, out: str | Path, output: OutputRun, execution: Execution
) -> Callable[[Iterable[Bundle]], Iterator[tuple[Bundle, list[Manifest]]]]:
    """The function that works on bundles here, with `model`, or in workers that load their own."""
    if execution.is_inline:
        local_model = cast("Model", model)
        return partial(_run_here, _worker(job, local_model, out, output.record, execution.observe, execution.storage))
    executor = execution.executor or job.local_pool(execution.workers)
    setup = partial(_load_worker, job.for_worker(output.record), output.root or out, output.record)
    return partial(_run_elsewhere, executor, setup, execution.observe)


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
        with failures:
            # A fingerprint has the size of an input. What was kept of other bytes of that size is of another shard.
            name = hash_tree({"bundle": fingerprints, "input": [input_sha256(shard) for shard in shards]})
            with report_loops(shards[0].key, observe), keep_journal(destination.journal(name)):
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
