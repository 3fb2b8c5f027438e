"""One edit of a corpus, from files to files.

Rule: a shard is finished when its manifest says so; what remains is done in any order, by any number of workers.
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
    Inline,
    Manifest,
    Observer,
    OutputRun,
    Shard,
    ShardStorage,
    Task,
    WorkerSetup,
    check_executor_has_effect,
    check_layout_has_effect,
    check_output_outside_input,
    check_unique_ids,
    find_shards,
    fingerprint_of,
    finish_shard,
    input_sha256,
    join_parts,
    no_progress,
    open_destination,
    open_output_run,
    read_finished,
    read_rejects,
    run_shards,
    shards_of_task,
    sum_counts,
)
from tailkeep.edit.config import EditConfig, dump, load
from tailkeep.edit.prior import EditPrior, load_model
from tailkeep.edit.provenance import PROVENANCE_FILE, Provenance, check_not_edited, share_before
from tailkeep.edit.shard import ShardEditor, record_failure
from tailkeep.edit.stats import EditOutcome
from tailkeep.edit.token_ids import check_tokenizer_of_ids
from tailkeep.runs import RunRecord, hash_path, hash_tree, versions
from tailkeep.scoring import local_pool, prior_for_worker

# Who edits shards: this process, processes of this machine, or whoever is handed in.
#
# Rule: a worker that would write other bytes than the process that sends it shards refuses to begin.


_PACKAGES = ("numpy", "pyarrow", "torch", "transformers", "tokenizers")


def sources_of(model: EditPrior) -> dict[str, Any]:
    """What of a process decides what it writes, as parts of a run's sources."""
    return {"model": model.identity(), "packages": versions(*_PACKAGES)}


def config_for_worker(config: EditConfig, record: RunRecord) -> EditConfig:
    """`config` for a worker in another process, with what `auto` and a relative path mean in this one."""
    prior = prior_for_worker(config.prior, record.sources["model"]["prior"])
    weights = config.sample_weights and config.sample_weights.absolute()
    return config.model_copy(update={"prior": prior, "sample_weights": weights})


def load_worker(config: EditConfig, out: str | Path, record: RunRecord) -> Callable[[Shard], Manifest]:
    """What a worker of its own process does with a shard; called there, once.

    Raises:
        InputError: the prior or the packages there are others than those of the run.
        TailkeepError: the prior or the output cannot be opened there.
    """
    model = load_model(config.prior)
    record.check_same_sources(sources_of(model))
    return worker(model, config, out, record)


def worker(
    model: EditPrior, config: EditConfig, out: str | Path, record: RunRecord, storage: ShardStorage | None = None
) -> Callable[[Shard], Manifest]:
    """What a worker does with a shard."""
    work = ShardEditor(model, config, Provenance(run=record.fingerprint).metadata())
    destination = open_destination(out, storage=storage)

    def finish(shard: Shard) -> Manifest:
        with record_failure(shard, destination, run=record.fingerprint):
            return finish_shard(shard, work, destination, fingerprint=fingerprint_of(shard, record.sources))

    return finish


# The output of an edit.
#
#     run.json  config.yaml  documents/  edits/  tokens/  rejects/  ids/  failures/  manifests/  summary.json
#
# Rule: the marks that tell readers of an edit are there before its first shard.


CONTENTS = Contents(("documents", "parts", "edits", "tokens", "rejects", "ids"), early=frozenset({PROVENANCE_FILE}))


# Parquet files that were edited in parts: which parts are finished, and the whole file out of them.
#
# Rule: parts are taken away only when the manifest of the whole tells all that theirs did.


_PARTS = "parts/"


def finished_by(shard: Shard, record: RunRecord, destination: Destination) -> Manifest | None:
    """The manifest that tells of `shard`: that of the file of which it is a part, else its own."""
    # In this order: what remains of the parts behind a joined file must not count twice.
    for unit in dict.fromkeys((_whole(shard), shard)):
        if manifest := read_finished(unit, destination, fingerprint=fingerprint_of(unit, record.sources)):
            return manifest
    return None


def join_files(shards: Sequence[Shard], record: RunRecord, opened: OutputRun) -> None:
    """Put each file together of which all parts are finished."""
    files: dict[str, list[Shard]] = defaultdict(list)
    for shard in shards:
        if shard.row_groups is not None:
            files[shard.name].append(shard)
    for parts in files.values():
        whole = _whole(parts[0])
        fingerprint = fingerprint_of(whole, record.sources)
        if not read_finished(whole, opened.destination, fingerprint=fingerprint):
            manifests = [manifest for part in parts if (manifest := finished_by(part, record, opened.destination))]
            assert len(manifests) == len(parts), "only finished parts make a file"
            _join(whole, manifests, fingerprint, opened)
        for part in parts:
            opened.destination.remove(f"manifests/{part.key}.json")
            opened.destination.remove(part.documents)


def _join(whole: Shard, manifests: Sequence[Manifest], fingerprint: str, opened: OutputRun) -> None:
    outputs = {name: output for manifest in manifests for name, output in manifest.outputs.items()}
    parts = [name for name in outputs if name.startswith(_PARTS)]

    def fill(folder: Path) -> None:
        target = folder / whole.documents
        target.parent.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as copies:
            join_parts([opened.local(name, Path(copies)) for name in parts], target)

    # Without text there is nothing to join.
    joined = opened.destination.publish(whole.key, fill) if parts else {}
    own_outputs = {name: output for name, output in outputs.items() if name not in parts}
    manifest = Manifest(
        shard=whole.key,
        fingerprint=fingerprint,
        input=input_sha256(whole),
        counts=sum_counts(manifests),
        outputs={**own_outputs, **joined},
    )
    opened.destination.write_text(f"manifests/{whole.key}.json", manifest.text())


def _whole(shard: Shard) -> Shard:
    return replace(shard, row_groups=None)


def run(
    config: EditConfig | Mapping[str, Any] | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: Observer = no_progress,
    storage: ShardStorage | None = None,
) -> EditOutcome:
    """Edit `inputs` into `out`, or finish the run that is there.

    Args:
        config: a configuration, or a mapping or YAML file of one.
        inputs: globs, folders or files, local or as fsspec URLs.
        out: a folder or a store.
        workers: processes of this machine that work on shards side by side; it changes no result.
        executor: who does the work instead, such as `tailkeep.integrations.ray.RayActors`; it changes no result.
        task: the share of the shards to work on; all if not given.
        observe: called with each finished shard.
        storage: where writes go; tests hand in faulty ones.

    Returns:
        The totals over all finished shards. If every one is, `summary.json` holds them.

    Raises:
        TailkeepError: bad input or configuration, an edited input, another fingerprint, a busy or a full disk.
    """
    config = config if isinstance(config, EditConfig) else load(config)
    task = task or Task()
    paths = [str(inputs)] if isinstance(inputs, str | Path) else [str(item) for item in inputs]
    check_executor_has_effect(workers, executor, storage)
    check_output_outside_input(out, tuple(paths))
    shards = find_shards(paths, row_groups=config.row_groups)
    mine = shards_of_task(shards, task.index, task.count)
    check_layout_has_effect(config.layout, shards)
    marks = check_not_edited(shards, previous_runs=config.previous_runs, force=config.force, among=mine)
    model = load_model(config.prior)
    check_tokenizer_of_ids(config, mine, model.surfaces)
    record = _record(config, model, shards, marks)
    with open_output_run(out, record, config=dump(config), task=task, contents=CONTENTS, storage=storage) as opened:
        with opened.alone():
            _begin_marks(shards, Provenance(run=record.fingerprint), opened)
        remaining = [shard for shard in mine if not finished_by(shard, record, opened.destination)]
        if executor is None and workers == 1:
            worker_pool: Executor = Inline()
            setup: WorkerSetup[Manifest] = partial(worker, model, config, out, record, storage)
        else:
            # Workers load it themselves, and the memory may be too small for one more.
            del model
            worker_pool = executor or local_pool(config.prior, workers)
            setup = partial(load_worker, config_for_worker(config, record), opened.root or out, record)
        run_shards(worker_pool, setup, remaining, observe, shards=len(mine), unit="tokens_read")
        with opened.alone():
            return _concluded(shards, record, opened, share_before(marks))


def _record(
    config: EditConfig, model: EditPrior, shards: Sequence[Shard], marks: Mapping[str, Provenance]
) -> RunRecord:
    weights = {} if config.sample_weights is None else {"weights": hash_path(config.sample_weights / "weights")}
    sources = {
        "config": config.deciding(),
        **sources_of(model),
        **weights,
        "input": {
            "shards": len(shards),
            "bytes": sum(shard.size for shard in shards),
            "hash": hash_tree({shard.key: shard.sources() for shard in shards}),
            "edited": {name: mark.model_dump() for name, mark in sorted(marks.items())},
        },
    }
    return RunRecord.of("edit", sources, versions=sources["packages"], seeds=(config.seed,))


def _concluded(
    shards: Sequence[Shard], record: RunRecord, opened: OutputRun, changed_before: float | None
) -> EditOutcome:
    """The totals; with the last shard finished, the checks that need all of them, and what is written last."""
    destination = opened.destination
    finished_manifests = [manifest for shard in shards if (manifest := finished_by(shard, record, destination))]
    # The manifest of a file tells of all its parts.
    manifests = list({manifest.shard: manifest for manifest in finished_manifests}.values())
    rejects = read_rejects(manifests, opened)
    outcome = EditOutcome(
        record.fingerprint, len(shards), len(finished_manifests), sum_counts(manifests), changed_before, rejects
    )
    if not outcome.complete:
        return outcome
    counts = outcome.counts
    out = counts["written"] + counts["rejected"] + counts.get("left_out", 0)
    assert counts["documents"] == out, "documents in are documents out, rejects and those left out"
    _refuse_equal_ids(manifests, opened)
    join_files(shards, record, opened)
    _write_marks(shards, Provenance(run=record.fingerprint, changed_share=outcome.cumulative_share), destination)
    destination.write_text("summary.json", outcome.summary())
    return outcome


def _refuse_equal_ids(manifests: Sequence[Manifest], opened: OutputRun) -> None:
    lists = [name for manifest in manifests for name in manifest.outputs if name.startswith("ids/")]
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
        files = {name: opened.local(name, Path(folder)) for name in lists}
        check_unique_ids({name[len("ids/") : -len(".ids")]: file for name, file in files.items()})


def _begin_marks(shards: Sequence[Shard], mark: Provenance, opened: OutputRun) -> None:
    """Write marks where there are none of this run; one that is there may already tell the changed share."""
    names = _mark_names(shards)
    for name in names:
        existing = opened.destination.read_text(name)
        if existing is None or mark.run not in existing:
            opened.destination.write_text(name, mark.text())


def _write_marks(shards: Sequence[Shard], mark: Provenance, destination: Destination) -> None:
    for name in _mark_names(shards):
        if destination.read_text(name) != mark.text():
            destination.write_text(name, mark.text())


def _mark_names(shards: Sequence[Shard]) -> list[str]:
    return sorted({f"{posixpath.dirname(f'documents/{shard.name}')}/{PROVENANCE_FILE}" for shard in shards})
