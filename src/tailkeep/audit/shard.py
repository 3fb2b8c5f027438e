"""The audit of one shard, from its documents to the files that tell of it.

    counts/<key>.parquet    numbers by name, see `counting`     types/<key>.parquet    how often each word occurs
    frequent/<key>.parquet  frequent words and pairs of words   copies/<key>.parquet   hashes of documents
    sample/<key>.parquet    documents of the sample             near/<key>.parquet     bands of MinHash
    scores/<key>.parquet    how sure the prior is           rejects/<key>.jsonl    what could not be read

Rule: a pure function of the shard and the configuration, and what it leaves can be put together in any order.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailkeep.audit.config import AuditConfig
from tailkeep.audit.documents import DocumentReader, HashSample, write_sample
from tailkeep.audit.duplicates import ExactDuplicates, NearDuplicates
from tailkeep.audit.prior_scores import PriorScorer, ScoreWriter
from tailkeep.data.corpus import Shard
from tailkeep.data.counters import Compressing, Counting, Counts, Document, batches_of
from tailkeep.data.sketches import Frequent
from tailkeep.workers import limited_threads

_MEGABYTE = 1 << 20


class ShardAuditor:
    """Audits shards whose names begin with their side, `input/` or `against/`. It is a `ShardFunction`."""

    def __init__(self, config: AuditConfig, asker: PriorScorer | None = None) -> None:
        self._config, self._asker = config, asker

    def __call__(self, shard: Shard, folder: Path) -> Mapping[str, int]:
        """Audit all of `shard` into files below `folder`; how many documents and words there are."""
        config, share = self._config, self._config.memory_mb * _MEGABYTE // 4
        with (
            limited_threads(config.num_threads),
            tempfile.TemporaryDirectory(prefix="tailkeep-") as runs,
            self._asking(folder, shard) as asking,
        ):
            places = {name: Path(runs, name) for name in ("types", "copies", "near")}
            for place in places.values():
                place.mkdir()
            counting, copies = Counting(share, places["types"]), ExactDuplicates(share, places["copies"])
            sampling = HashSample(config.sample.documents, bare_name(shard), config.seed)
            near = config.near_duplicates and NearDuplicates(config.near_duplicates, config.seed, share, places["near"])
            packing = config.compression and Compressing(config.compression)
            reader = DocumentReader(shard, config.layout, folder, config.on_error)
            takers = [taker.add for taker in (copies, sampling, near, asking) if taker]

            def documents() -> Iterator[Document]:
                for document in reader.documents(replace(shard, name=bare_name(shard))):
                    for take in takers:
                        take(document)
                    if packing:
                        packing.add(document.raw)
                    yield document

            for batch in batches_of(documents()):
                counting.add(batch)
            counts = counting.counts() | {"documents": np.array([reader.read - reader.rejected])}
            for more in (packing, asking):
                counts |= more.counts() if more else {}
            write_counts(counts, made(folder, "counts", shard))
            counting.types.write(made(folder, "types", shard))
            copies.write(made(folder, "copies", shard))
            if near:
                near.table.write(made(folder, "near", shard))
            write_frequent(counting.frequent, made(folder, "frequent", shard))
            write_sample(sampling.sample(), made(folder, "sample", shard))
        return {"documents": reader.read, "rejected": reader.rejected, "words": counting.words}

    def _asking(self, folder: Path, shard: Shard) -> ScoreWriter | nullcontext[None]:
        return nullcontext() if self._asker is None else ScoreWriter(self._asker, made(folder, "scores", shard))


def bare_name(shard: Shard) -> str:
    """The name of `shard` below its input, without its side."""
    return shard.name.partition("/")[2]


def made(folder: Path, kind: str, shard: Shard) -> Path:
    """Where the file of `kind` of `shard` goes; its folder is made."""
    path = folder / kind / f"{shard.key}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_counts(counts: Counts, path: Path) -> None:
    """`counts` as a parquet file."""
    columns = {"name": sorted(counts), "values": [counts[name].tolist() for name in sorted(counts)]}
    schema = pa.schema([("name", pa.string()), ("values", pa.list_(pa.int64()))])
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def read_counts(path: Path) -> Counts:
    """What `write_counts` has written."""
    return {row["name"]: np.array(row["values"], np.int64) for row in pq.read_table(path).to_pylist()}


def write_frequent(sketches: Mapping[int, Frequent], path: Path) -> None:
    """The sketches by length of n-gram as a parquet file, their errors in its metadata."""
    schema = pa.schema([("length", pa.int64()), ("hash", pa.uint64()), ("text", pa.string()), ("count", pa.int64())])
    errors = {f"error/{length}": str(sketch.error) for length, sketch in sketches.items()}
    tables = [
        pa.table([np.full(len(sketch.hashes), length), sketch.hashes, sketch.read(), sketch.counts], schema=schema)
        for length, sketch in sketches.items()
    ]
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(errors), path, compression="zstd")


def read_frequent(path: Path, size: int) -> dict[int, Frequent]:
    """What `write_frequent` has written, of sketches of `size`."""
    table = pq.read_table(path)
    errors = {key.decode(): int(value) for key, value in table.schema.metadata.items() if key.startswith(b"error/")}
    found = {}
    for name, error in sorted(errors.items()):
        length = int(name.partition("/")[2])
        own = table.filter(pc.equal(table["length"], length))
        hashes, counts = (own[column].to_numpy() for column in ("hash", "count"))
        texts = dict(zip(hashes.tolist(), own["text"].cast(pa.binary()).to_pylist(), strict=True))
        found[length] = Frequent(size, hashes, counts, texts, error)
    return found
