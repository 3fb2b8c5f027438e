"""The audit of one shard, or of a bundle of small files: one pass over the documents fills counters, written as files.

    counts/<key>.parquet    numbers by name, see `data.counters`   types/<key>.parquet            count of each word
    frequent/<key>.parquet  frequent words and pairs of words      duplicates/<key>.parquet       hashes of documents
    sample/<key>.parquet    documents of the sample                near_duplicates/<key>.parquet  bands of MinHash
    share/<key>.parquet     documents of the sample for the share of synthetic documents
    scores/<key>.parquet    log-probabilities under the prior      rejects/<key>.jsonl            unreadable documents

Rule: the files are a pure function of the bundle and the configuration, and can be merged in any order. Those of a
bundle stand under the key of its first file; scores and rejects under that of each.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.documents import (
    SHORT_TEXT_BYTES,
    TEXT_BYTES,
    ExactDuplicates,
    HashSample,
    NearDuplicates,
    write_sample,
)
from tailkeep.audit.evidence import SIDES
from tailkeep.audit.prior_scores import PriorScorer, ScoreWriter
from tailkeep.data.corpus import MEGABYTE, Shard, side_of
from tailkeep.data.counters import CompressionCounter, Counts, ShardCounter, ShardDocument, batch_documents
from tailkeep.data.documents import DocumentReader
from tailkeep.data.sketches import FrequentItems
from tailkeep.workers import keep_freed_memory, limited_threads


class BundleAuditor:
    """A `BundleFunction`. The names of shards begin with the side of them all, such as `input/` or `reference/`."""

    def __init__(self, config: AuditConfig, scorer: PriorScorer | None = None, *, with_share: bool = False) -> None:
        self._config, self._scorer, self._with_share = config, scorer, with_share

    def __call__(self, shards: Sequence[Shard], folder: Path) -> list[Mapping[str, int]]:
        """Audit `shards` into files below `folder`. Return their documents and rejects; words are the first one's."""
        first, side = shards[0], side_of(shards[0].name)
        config, memory = self._config, self._config.memory_mb * MEGABYTE // 4
        keep_freed_memory()
        with (
            limited_threads(config.num_threads),
            tempfile.TemporaryDirectory(prefix="tailkeep-") as temporary,
            self._score_writer(folder, shards) as score_writer,
        ):
            spill = {name: Path(temporary, name) for name in ("types", "exact", "near")}
            for spill_folder in spill.values():
                spill_folder.mkdir()
            counters, exact = ShardCounter(memory, spill["types"]), ExactDuplicates(memory, spill["exact"])
            sample = HashSample(config.sample.documents, config.seed)
            is_of_share = self._with_share and side in SIDES
            share_bytes = min(TEXT_BYTES, max(SHORT_TEXT_BYTES, 8 * config.sample.max_words))
            share_sample = is_of_share and HashSample(config.share.documents, config.seed, text_bytes=share_bytes)
            near = config.near_duplicates and NearDuplicates(config.near_duplicates, config.seed, memory, spill["near"])
            compression = config.compression and CompressionCounter(config.compression)
            by = config.share.by if self._with_share and side == "input" else None
            reader = DocumentReader(shards, config.layout, folder, config.on_error, by=by)
            collectors = [collector for collector in (exact, sample, share_sample, near, score_writer) if collector]

            def documents() -> Iterator[ShardDocument]:
                for document in reader.documents():
                    for collector in collectors:
                        collector.add(document)
                    if compression:
                        compression.add(document.raw)
                    yield document

            for batch in batch_documents(documents()):
                counters.add(batch)
            counts = counters.counts() | {"documents": np.array([sum(reader.read) - sum(reader.rejected)])}
            for optional in (compression, score_writer):
                counts |= optional.counts() if optional else {}
            write_counts(counts, make_output_path(folder, "counts", first))
            counters.types.write(make_output_path(folder, "types", first))
            exact.write(make_output_path(folder, "duplicates", first))
            if near:
                near.table.write(make_output_path(folder, "near_duplicates", first))
            write_frequent(counters.frequent, make_output_path(folder, "frequent", first))
            write_sample(sample.documents(), make_output_path(folder, "sample", first))
            if share_sample:
                write_sample(share_sample.documents(), make_output_path(folder, "share", first))
        words = [counters.words] + [0] * (len(shards) - 1)
        return [{**count, "words": number} for count, number in zip(reader.counts(), words, strict=True)]

    def _score_writer(self, folder: Path, shards: Sequence[Shard]) -> AbstractContextManager[ScoreWriter | None]:
        if self._scorer is None:
            return nullcontext()
        return closing(ScoreWriter(self._scorer, [make_output_path(folder, "scores", shard) for shard in shards]))


def make_output_path(folder: Path, kind: str, shard: Shard) -> Path:
    """The path of the file of `kind` of `shard`. Creates its folder."""
    path = folder / kind / f"{shard.key}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_counts(counts: Counts, path: Path) -> None:
    """Write `counts` as a parquet file."""
    columns = {"name": sorted(counts), "values": [counts[name].tolist() for name in sorted(counts)]}
    schema = pa.schema([("name", pa.string()), ("values", pa.list_(pa.int64()))])
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def read_counts(path: Path) -> Counts:
    """Read the counts that `write_counts` wrote."""
    return {row["name"]: np.array(row["values"], np.int64) for row in pq.read_table(path).to_pylist()}


def write_frequent(sketches: Mapping[int, FrequentItems], path: Path) -> None:
    """Write sketches by n-gram length as a parquet file, with their errors in its metadata."""
    schema = pa.schema([("length", pa.int64()), ("hash", pa.uint64()), ("text", pa.string()), ("count", pa.int64())])
    errors = {f"error/{length}": str(sketch.error) for length, sketch in sketches.items()}
    tables = [
        pa.table([np.full(len(sketch.hashes), length), sketch.hashes, sketch.read(), sketch.counts], schema=schema)
        for length, sketch in sketches.items()
    ]
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(errors), path, compression="zstd")


def read_frequent(path: Path, size: int) -> dict[int, FrequentItems]:
    """Read the sketches of `size` that `write_frequent` wrote."""
    table = pq.read_table(path)
    errors = {key.decode(): int(value) for key, value in table.schema.metadata.items() if key.startswith(b"error/")}
    sketches = {}
    for name, error in sorted(errors.items()):
        length = int(name.partition("/")[2])
        rows = table.filter(pc.equal(table["length"], length))
        hashes, counts = (rows[column].to_numpy() for column in ("hash", "count"))
        texts = dict(zip(hashes.tolist(), rows["text"].cast(pa.binary()).to_pylist(), strict=True))
        sketches[length] = FrequentItems(size, hashes, counts, texts, error)
    return sketches
