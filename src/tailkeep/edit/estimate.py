"""The dry run of an edit: an estimate from a few documents. Rule: every file it writes is deleted."""

import tempfile
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tailkeep.data.corpus import Record, Shard, check_layout_has_effect, find_shards, read_shard
from tailkeep.edit.config import EditConfig
from tailkeep.edit.editor import load_model
from tailkeep.edit.provenance import check_not_edited, share_before
from tailkeep.edit.shard import ShardEditor
from tailkeep.edit.stats import EditOutcome
from tailkeep.edit.token_ids import check_tokenizer_of_ids

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
    check_layout_has_effect(config.layout, shards)
    count = min(_SHARDS, len(shards), limit)
    sample = [shards[number * len(shards) // count] for number in range(count)]
    marks = check_not_edited(shards, previous_runs=config.previous_runs, force=config.force)
    model = load_model(config.prior)
    check_tokenizer_of_ids(config, shards, model.token_texts)
    work = ShardEditor(model, config, {})
    counts: Counter[str] = Counter()
    seconds = read = written_bytes = 0.0
    for number, shard in enumerate(sample):
        shard_limit = limit * (number + 1) // count - limit * number // count
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as folder:
            start = time.perf_counter()
            counts.update(work.work(shard, Path(folder), limit=shard_limit))
            seconds += time.perf_counter() - start
            written_bytes += sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        read += _bytes_read(shard, config, shard_limit)
    whole = sum(shard.size for shard in shards) / max(read, 1)
    outcome = EditOutcome("", len(shards), len(sample), counts, changed_before=share_before(marks))
    speed = counts["tokens_read"] / max(seconds, 1e-9)
    return EditEstimate(outcome, counts["documents"], speed, seconds * whole, written_bytes * whole)


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
