"""One edit of a corpus, from files to files.

    run.json  config.yaml  documents/  edits/  tokens/  rejects/  ids/  failures/  manifests/  summary.json

Rule: the provenance files that tell readers of an edit exist before its first shard. A worker that would write other
bytes than the process that sends it shards refuses to begin. Parts of a parquet file are removed only when the manifest
of the whole file holds all that theirs did.
"""

import posixpath
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tailkeep.data.corpus import (
    Contents,
    Destination,
    Executor,
    Inputs,
    Manifest,
    Observer,
    OutputRun,
    Shard,
    ShardJob,
    ShardStorage,
    Task,
    absolute_output,
    check_layout_has_effect,
    check_output_outside_input,
    check_unique_ids,
    find_shards,
    fingerprint_of,
    finish_shard,
    inline_executor,
    input_sha256,
    input_sources,
    join_parts,
    no_progress,
    open_destination,
    path_list,
    read_finished,
    run_job,
    shards_of_task,
    sum_counts,
    totals,
    unique_manifests,
)
from tailkeep.edit.config import EditConfig, dump, load
from tailkeep.edit.prior import EditPrior, load_model
from tailkeep.edit.provenance import PROVENANCE_FILE, Provenance, check_not_edited, share_before
from tailkeep.edit.shard import ShardEditor, record_failure
from tailkeep.edit.stats import EditOutcome
from tailkeep.edit.token_ids import check_tokenizer_of_ids
from tailkeep.runs import RunRecord, hash_path, versions
from tailkeep.scoring import local_pool, prior_for_worker

CONTENTS = Contents(("documents", "parts", "edits", "tokens", "rejects", "ids"), early=frozenset({PROVENANCE_FILE}))
_PACKAGES = ("numpy", "pyarrow", "torch", "transformers", "tokenizers")
_PARTS = "parts/"


def run(
    config: EditConfig | Mapping[str, Any] | Path,
    inputs: Inputs,
    out: str | Path,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: Observer = no_progress,
    storage: ShardStorage | None = None,
) -> EditOutcome:
    """Edit `inputs` into `out`, or resume the run in `out`.

    Args:
        config: a configuration, or a mapping or YAML file of one.
        inputs: globs, folders or files, local or as fsspec URLs.
        out: a folder or the URL of a store.
        workers: number of processes on this machine. It changes no result.
        executor: runs the shards instead, such as `tailkeep.integrations.ray.RayActors`. It changes no result.
        task: the share of the shards to work on; all of them by default.
        observe: called after each finished shard.
        storage: performs the writes; tests pass faulty ones.

    Returns:
        The totals over all finished shards. Once every shard is finished, `summary.json` holds them.

    Raises:
        TailkeepError: the input or configuration is bad, the input is edited already, `out` holds another run or is
            busy, or the disk is full.
    """
    config = config if isinstance(config, EditConfig) else load(config)
    task = task or Task()
    paths = path_list(inputs)
    inline = inline_executor(workers, executor, storage)
    check_output_outside_input(out, tuple(paths))
    shards = find_shards(paths, row_groups=config.row_groups)
    task_shards = shards_of_task(shards, task)
    check_layout_has_effect(config.layout, shards)
    edited = check_not_edited(shards, previous_runs=config.previous_runs, force=config.force, among=task_shards)
    model = load_model(config.prior)
    check_tokenizer_of_ids(config, task_shards, model.token_texts)
    record = _record(config, model, shards, edited)
    if inline:
        setup = partial(worker, model, config, out, record, storage)
    else:
        # Each worker loads its own prior; memory may not hold another one here.
        del model
        setup = partial(load_worker, config_for_worker(config, record), absolute_output(out), record)
    job = ShardJob(
        record=record,
        config=dump(config),
        contents=CONTENTS,
        shards=shards,
        executor=inline or executor or local_pool(config.prior, workers),
        setup=setup,
        finished_manifest=partial(finished_by, record=record),
        conclude=partial(_conclude, shards, record, share_before(edited)),
        unit="tokens_read",
        begin=partial(_write_missing_provenance, shards, Provenance(run=record.fingerprint)),
    )
    return run_job(job, out, task=task, observe=observe, storage=storage)


def _record(
    config: EditConfig, model: EditPrior, shards: Sequence[Shard], edited: Mapping[str, Provenance]
) -> RunRecord:
    weights = {} if config.sample_weights is None else {"weights": hash_path(config.sample_weights / "weights")}
    before = {name: provenance.model_dump() for name, provenance in sorted(edited.items())}
    sources = {
        "config": config.fingerprint_tree(),
        **sources_of(model),
        **weights,
        "input": {**input_sources(shards), "edited": before},
    }
    return RunRecord.of("edit", sources, versions=sources["packages"], seeds=(config.seed,))


def sources_of(model: EditPrior) -> dict[str, Any]:
    """The prior and the packages of this process: the part of a run's sources that a worker must share."""
    return {"model": model.identity(), "packages": versions(*_PACKAGES)}


def config_for_worker(config: EditConfig, record: RunRecord) -> EditConfig:
    """`config` for a worker in another process: `auto` and relative paths are resolved in this one."""
    prior = prior_for_worker(config.prior, record.sources["model"]["prior"])
    weights = config.sample_weights and config.sample_weights.absolute()
    return config.model_copy(update={"prior": prior, "sample_weights": weights})


def load_worker(config: EditConfig, out: str | Path, record: RunRecord) -> Callable[[Shard], Manifest]:
    """Load the prior in a worker process and return its shard function; called once per process.

    Raises:
        InputError: the worker's prior or packages differ from those of the run.
        TailkeepError: the worker cannot open the prior or the output.
    """
    model = load_model(config.prior)
    record.check_same_sources(sources_of(model))
    return worker(model, config, out, record)


def worker(
    model: EditPrior, config: EditConfig, out: str | Path, record: RunRecord, storage: ShardStorage | None = None
) -> Callable[[Shard], Manifest]:
    """The function with which a worker edits and publishes one shard."""
    editor = ShardEditor(model, config, Provenance(run=record.fingerprint).metadata())
    destination = open_destination(out, storage=storage)

    def finish(shard: Shard) -> Manifest:
        with record_failure(shard, destination, run=record.fingerprint):
            return finish_shard(shard, editor, destination, fingerprint=fingerprint_of(shard, record.sources))

    return finish


def _conclude(
    shards: Sequence[Shard],
    record: RunRecord,
    changed_before: float | None,
    finished: Mapping[str, Manifest],
    output: OutputRun,
) -> EditOutcome:
    """The totals. Once every shard is finished: the checks that need all of them, and what is written last."""
    outcome = EditOutcome(**totals(record, shards, finished, output), changed_before=changed_before)
    if not outcome.complete:
        return outcome
    counts = outcome.counts
    accounted = counts["written"] + counts["rejected"] + counts.get("left_out", 0)
    assert counts["documents"] == accounted, "documents in are documents out, rejects and excluded ones"
    _check_unique_ids(unique_manifests(finished), output)
    join_files(shards, record, output)
    provenance = Provenance(run=record.fingerprint, changed_share=outcome.cumulative_share)
    for name in _provenance_names(shards):
        if output.destination.read_text(name) != provenance.text():
            output.destination.write_text(name, provenance.text())
    output.destination.write_text("summary.json", outcome.summary())
    return outcome


def finished_by(shard: Shard, destination: Destination, *, record: RunRecord) -> Manifest | None:
    """The manifest that declares `shard` finished: that of the file of which it is a part, else its own."""
    # In this order: what remains of the parts behind a joined file must not count twice.
    for unit in dict.fromkeys((_whole(shard), shard)):
        if manifest := read_finished(unit, destination, fingerprint=fingerprint_of(unit, record.sources)):
            return manifest
    return None


def join_files(shards: Sequence[Shard], record: RunRecord, output: OutputRun) -> None:
    """Join the parts of each file."""
    files: dict[str, list[Shard]] = defaultdict(list)
    for shard in shards:
        if shard.row_groups is not None:
            files[shard.name].append(shard)
    for parts in files.values():
        whole = _whole(parts[0])
        fingerprint = fingerprint_of(whole, record.sources)
        if not read_finished(whole, output.destination, fingerprint=fingerprint):
            finished = [finished_by(part, output.destination, record=record) for part in parts]
            manifests = [manifest for manifest in finished if manifest]
            assert len(manifests) == len(parts), "only finished parts make a file"
            _join(whole, manifests, fingerprint, output)
        for part in parts:
            output.destination.remove(f"manifests/{part.key}.json")
            output.destination.remove(part.documents)


def _join(whole: Shard, manifests: Sequence[Manifest], fingerprint: str, output: OutputRun) -> None:
    outputs = {name: entry for manifest in manifests for name, entry in manifest.outputs.items()}
    parts = [name for name in outputs if name.startswith(_PARTS)]

    def fill(folder: Path) -> None:
        target = folder / whole.documents
        target.parent.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as copies:
            join_parts([output.local(name, Path(copies)) for name in parts], target)

    # Without text there is nothing to join.
    joined = output.destination.publish(whole.key, fill) if parts else {}
    other_outputs = {name: entry for name, entry in outputs.items() if name not in parts}
    manifest = Manifest(
        shard=whole.key,
        fingerprint=fingerprint,
        input=input_sha256(whole),
        counts=sum_counts(manifests),
        outputs={**other_outputs, **joined},
    )
    output.destination.write_text(f"manifests/{whole.key}.json", manifest.text())


def _whole(shard: Shard) -> Shard:
    return replace(shard, row_groups=None)


def _check_unique_ids(manifests: Sequence[Manifest], output: OutputRun) -> None:
    lists = [name for manifest in manifests for name in manifest.outputs if name.startswith("ids/")]
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        files = {name: output.local(name, Path(folder)) for name in lists}
        check_unique_ids({name[len("ids/") : -len(".ids")]: file for name, file in files.items()})


def _write_missing_provenance(shards: Sequence[Shard], provenance: Provenance, output: OutputRun) -> None:
    """Write files where there are none of this run; one that exists may already hold the changed share."""
    for name in _provenance_names(shards):
        existing = output.destination.read_text(name)
        if existing is None or provenance.run not in existing:
            output.destination.write_text(name, provenance.text())


def _provenance_names(shards: Sequence[Shard]) -> list[str]:
    return sorted({f"{posixpath.dirname(f'documents/{shard.name}')}/{PROVENANCE_FILE}" for shard in shards})
