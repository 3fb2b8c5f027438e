"""One edit of a corpus, from files to files, and its dry run: what an edit adds to the job over shards.

    run.json  config.yaml  documents/  edits/  tokens/  rejects/  ids/  failures/  manifests/  summary.json
    tailkeep.json

Rules: the provenance files that tell readers of an edit exist before its first shard. Every file that a dry run writes
is deleted.
"""

import tempfile
import time
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from tailkeep.data.corpus import (
    BundleFunction,
    Contents,
    DuplicateId,
    Execution,
    Executor,
    Inputs,
    JobShards,
    Manifest,
    OutputRun,
    Record,
    Rejected,
    RunOutcome,
    Shard,
    ShardList,
    ShardStorage,
    Task,
    check_layout_has_effect,
    check_unique_ids_of_run,
    find_duplicates,
    find_shards,
    join_finished_parts,
    path_list,
    read_shard,
    run_job,
)
from tailkeep.edit.config import EditConfig, load
from tailkeep.edit.editor import EditPrior, load_model
from tailkeep.edit.provenance import (
    Provenance,
    check_not_edited,
    share_before,
    write_provenance,
)
from tailkeep.edit.shard import ShardEditor
from tailkeep.edit.stats import EditOutcome
from tailkeep.edit.token_ids import check_tokenizer_of_ids
from tailkeep.errors import InputError
from tailkeep.runs import ProgressObserver, RunRecord, hash_path, no_progress, versions
from tailkeep.scoring import local_pool, prior_for_worker, uses_gpu

_SHARDS = 8
_LEVEL = 6


@dataclass(frozen=True)
class EditEstimate:
    """Estimates for the whole corpus: `seconds` with one worker, `bytes` of output."""

    outcome: EditOutcome
    documents: int
    tokens_per_second: float
    seconds: float
    bytes: float

    def lines(self) -> list[str]:
        """The estimate, one sentence per line."""
        return [
            f"sample: {self.documents:,} documents of {self.outcome.finished} of {self.outcome.shards} shards",
            *self.outcome.lines()[1:],
            *(f"warning: {line}" for line in self.outcome.warnings()),
            f"speed: {self.tokens_per_second:,.0f} tokens/s with one worker",
            f"whole corpus: about {_duration(self.seconds)} with one worker, about {_size(self.bytes)} of output",
            "nothing was written",
        ]


def estimate(config: EditConfig, inputs: str | Path | Sequence[str | Path], *, limit: int) -> EditEstimate:
    """Edit the first documents of some shards, `limit` in all, and delete the result.

    Args:
        config: as for `run`.
        inputs: as for `run`.
        limit: the number of documents, in equal parts from evenly spaced shards.

    Raises:
        TailkeepError: as `run` does.
    """
    shards = find_shards(inputs, config.layout)
    check_layout_has_effect(config.layout, shards, row_groups=config.row_groups)
    count = min(_SHARDS, len(shards), limit)
    sample = [shards[number * len(shards) // count] for number in range(count)]
    marks = check_not_edited(shards, previous_runs=config.previous_runs, force=config.force)
    model = load_model(config.prior)
    check_tokenizer_of_ids(config, shards, model.token_texts)
    limits = [limit * (number + 1) // count - limit * number // count for number in range(count)]
    skips = config.on_error == "skip" and config.layout.id_field is not None
    rejects = _equal_ids(sample, limits, config) if skips else {}
    edit_shards = ShardEditor(model, config, {}, reject_rows=rejects)
    counts: Counter[str] = Counter()
    seconds = read = written_bytes = 0.0
    for shard, shard_limit in zip(sample, limits, strict=True):
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
            start = time.perf_counter()
            counts.update(edit_shards([shard], Path(folder), limit=shard_limit)[0])
            seconds += time.perf_counter() - start
            written_bytes += sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        read += _bytes_read(shard, config, shard_limit)
    whole = sum(shard.size for shard in shards) / max(read, 1)
    outcome = EditOutcome(
        "",
        len(shards),
        len(sample),
        counts,
        changed_before=share_before(marks),
        risks_facts=config.risks_facts,
        rule=config.rule.name,
        ignored=shards.ignored,
    )
    speed = counts["tokens_read"] / max(seconds, 1e-9)
    return EditEstimate(outcome, counts["documents"], speed, seconds * whole, written_bytes * whole)


def _equal_ids(sample: Sequence[Shard], limits: Sequence[int], config: EditConfig) -> dict[str, dict[int, str]]:
    """Of the documents up to the first `limits` of the shards of `sample`, those whose id an earlier one has."""
    places: dict[str, tuple[str, int]] = {}
    rejects: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for shard, shard_limit in zip(sample, limits, strict=True):
        last = len(places) + shard_limit
        for item in read_shard(shard, config.layout):
            if len(places) == last:
                break
            if isinstance(item, Rejected):
                continue
            if item.id in places:
                first_name, first_row = places[item.id]
                duplicate = DuplicateId(shard.key, item.row, first_name, first_row)
                rejects[shard.key][item.row] = duplicate.reason()
            else:
                places[item.id] = shard.key, item.row
    return rejects


def _bytes_read(shard: Shard, config: EditConfig, limit: int) -> float:
    """About how many bytes of the file are its first `limit` documents."""
    records = islice((item for item in read_shard(shard, config.layout) if isinstance(item, Record)), limit)
    raw = b"\n".join(_raw_bytes(record) for record in records)
    is_packed = shard.compression != "none" or shard.kind == "parquet"
    return min(len(zlib.compress(raw, _LEVEL)) if is_packed else len(raw), shard.size)


def _raw_bytes(record: Record) -> bytes:
    raw: bytes | None = getattr(record.origin, "raw", None)
    if raw is not None:
        return raw
    if record.tokens:
        return array("i", record.tokens.ids or ()).tobytes()
    return "".join(field.text for field in record.fields).encode()


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(count: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"


def gpus_for(config: EditConfig) -> int:
    """How many GPUs a worker needs: 1 for a prior on a GPU, else 0."""
    return int(uses_gpu(config.prior))


@dataclass(frozen=True)
class _EditJob:
    """What an edit adds to `run_job`; see `ShardJob`."""

    config: EditConfig
    paths: tuple[str, ...]
    reject_rows: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """The documents that are rejected for their id, by the key of the shard and the row."""

    kind: ClassVar[str] = "edit"
    progress_unit: ClassVar[str] = "tokens_read"
    contents: ClassVar[Contents] = Contents(("documents", "parts", "edits", "tokens", "rejects", "ids"), failures=True)

    def find_shards(self) -> ShardList:
        shards = find_shards(self.paths, self.config.layout, row_groups=self.config.row_groups)
        check_layout_has_effect(self.config.layout, shards, row_groups=self.config.row_groups)
        return shards

    def check_input(self, shards: Sequence[Shard], task_shards: Sequence[Shard]) -> dict[str, Any]:
        config = self.config
        edited = check_not_edited(shards, previous_runs=config.previous_runs, force=config.force, among=task_shards)
        weights = {} if config.sample_weights is None else {"weights": hash_path(config.sample_weights / "weights")}
        before = {name: provenance.model_dump() for name, provenance in sorted(edited.items())}
        return {**weights, "input": {"edited": before}}

    def load_model(self, task_shards: Sequence[Shard] | None = None) -> EditPrior:
        model = load_model(self.config.prior)
        if self.config.layout.token_field and task_shards is not None:
            check_tokenizer_of_ids(self.config, task_shards, model.token_texts)
        return model

    def process_sources(self, model: EditPrior) -> dict[str, Any]:
        packages = versions("numpy", "pyarrow", "torch", "transformers", "tokenizers")
        return {"model": model.identity(), "packages": packages}

    def for_worker(self, record: RunRecord) -> "_EditJob":
        prior = prior_for_worker(self.config.prior, record.sources["model"]["prior"])
        weights = self.config.sample_weights and self.config.sample_weights.absolute()
        config = self.config.model_copy(update={"prior": prior, "sample_weights": weights})
        return replace(self, config=config)

    def local_pool(self, workers: int) -> Executor:
        return local_pool(self.config.prior, workers)

    def bundle_function(self, model: EditPrior, record: RunRecord) -> BundleFunction:
        metadata = Provenance(run=record.fingerprint).metadata()
        return ShardEditor(model, self.config, metadata, reject_rows=self.reject_rows)

    def prepare(self, work: JobShards, output: OutputRun) -> "_EditJob":
        layout, remaining = self.config.layout, set(work.remaining)
        if layout.id_field is None:
            return self
        if self.config.on_error == "stop":
            _check_unique_ids(find_duplicates(work.task, layout, output, remaining=remaining))
            return self
        # Which document is the first of its id depends on all shards, so that no task may look at its own alone.
        keys = {shard.key for shard in remaining}
        reasons: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for duplicate in find_duplicates(work.all, layout, output, remaining=remaining) if remaining else ():
            if duplicate.name in keys:
                reasons[duplicate.name][duplicate.row] = duplicate.reason()
        return replace(self, reject_rows=dict(reasons))

    def begin(self, output: OutputRun) -> None:
        with output.alone():
            provenance = Provenance(run=output.record.fingerprint)
            write_provenance(provenance, output.destination, keep_changed_share=True)

    def conclude(
        self,
        totals: RunOutcome,
        shards: Sequence[Shard],
        manifests: Sequence[Manifest],
        output: OutputRun,
        model: EditPrior | None,
    ) -> EditOutcome:
        del model
        edited = output.record.sources["input"]["edited"]
        changed_before = share_before({name: Provenance(**tree) for name, tree in edited.items()})
        prior = output.record.sources["model"]["prior"]
        outcome = EditOutcome(
            **vars(totals),
            changed_before=changed_before,
            risks_facts=self.config.risks_facts,
            rule=self.config.rule.name,
            prior=f"{prior['dtype']} on {prior['device']}",
        )
        if not outcome.complete:
            return outcome
        counts = outcome.counts
        accounted = counts["written"] + counts["rejected"] + counts.get("left_out", 0)
        assert counts["documents"] == accounted, "documents in are documents out, rejects and excluded ones"
        # Without --on-error skip tasks check their own shards before the first is edited; this is between them.
        check_unique_ids_of_run(manifests, output)
        join_finished_parts(shards, output)
        provenance = Provenance(run=outcome.fingerprint, changed_share=outcome.cumulative_share)
        write_provenance(provenance, output.destination)
        output.destination.write_texts({"summary.json": outcome.summary()})
        return outcome


def _check_unique_ids(duplicates: Iterator[DuplicateId]) -> None:
    first = next(duplicates, None)
    if first is None:
        return
    count = 1 + sum(1 for _ in duplicates)
    raise InputError(
        f"{count:,} {'document has' if count == 1 else 'documents have'} the id of an earlier one, such as "
        f"{first.name}, document {first.row}, and {first.first_name}, document {first.first_row}, from 0. Make the ids "
        "unique, name another id field, set it to null to number the documents, or give --on-error skip to reject them."
    )


def run(
    config: EditConfig | Mapping[str, Any] | Path,
    inputs: Inputs,
    out: str | Path,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    task: Task | None = None,
    observe: ProgressObserver = no_progress,
    storage: ShardStorage | None = None,
    verify: bool = False,
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
        verify: check the sha256 of every finished output first; what is damaged is made again. It is also done once
            all shards are finished.

    Returns:
        The totals over all finished shards. Once every shard is finished, `summary.json` holds them.

    Raises:
        TailkeepError: the input or configuration is bad, the input is edited already, `out` holds another run or is
            busy, or the disk is full.
    """
    config = config if isinstance(config, EditConfig) else load(config)
    execution = Execution(workers, executor, task, observe, storage, verify)
    return run_job(_EditJob(config, path_list(inputs)), out, execution)
