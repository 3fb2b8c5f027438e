"""Documents of a shard: a sample of them, and which are duplicates, exact ones by hash and near ones by MinHash.

Rules: whether a document is sampled depends on its file and row alone: its hash is among the smallest. So the sample is
the same however a corpus is split into shards and whichever worker reads it. Duplicates are compared by hashes that are
sorted on disk; no pair of documents is ever compared.
"""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.audit.config import NearDuplicateConfig, SampleConfig
from tailkeep.data.count_tables import CountTable
from tailkeep.data.counters import ShardDocument
from tailkeep.data.hashing import Hashes, Words, extend_grams, mix_bits, ngrams_of, split_words
from tailkeep.optional import require

TEXT_BYTES = 1 << 14
"""A sampled text is truncated to so many bytes, about 2,000 words in most scripts."""

SHORT_TEXT_BYTES = 1 << 12
"""The same in the larger sample for the share of synthetic documents, about 600 words; more where tests use more."""

_MIN_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class SampledDocument:
    """A sampled document: its file and row, its full length, the beginning of its text, and its source, if known."""

    priority: int
    location: str
    id: str
    bytes: int
    text: str
    source: str = ""


class HashSample:
    """A sample of `size` documents, those with the smallest hashes, cut to `text_bytes` bytes."""

    def __init__(self, size: int, seed: int, *, text_bytes: int = TEXT_BYTES) -> None:
        self._size, self._seed, self._text_bytes = size, seed, text_bytes
        self._file, self._key = "", self._key_of("")
        self._heap: list[tuple[int, int, SampledDocument]] = []

    def add(self, document: ShardDocument) -> None:
        """Add `document` if its hash is among the smallest so far."""
        if document.file != self._file:
            self._file, self._key = document.file, self._key_of(document.file)
        digest = hashlib.blake2b(document.row.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        priority = int.from_bytes(digest, "little")
        if len(self._heap) == self._size and -self._heap[0][0] <= priority:
            return
        text = document.raw[: self._text_bytes].decode("utf-8", "ignore")
        location = f"{document.file}:{document.row}"
        sampled = SampledDocument(priority, location, document.id, len(document.raw), text, document.source)
        item = (-priority, document.place, sampled)
        (heapq.heappush if len(self._heap) < self._size else heapq.heapreplace)(self._heap, item)

    def documents(self) -> list[SampledDocument]:
        """The sample, the smallest hash first."""
        return smallest((item for _, _, item in self._heap), self._size)

    def _key_of(self, file: str) -> bytes:
        return hashlib.blake2b(f"{self._seed}/{file}".encode(), digest_size=16).digest()


def smallest(sampled: Iterable[SampledDocument], size: int) -> list[SampledDocument]:
    """The `size` documents with the smallest hashes."""
    return heapq.nsmallest(size, sampled, key=lambda item: (item.priority, item.location))


def common_length(split: Iterable[Words], sample: SampleConfig) -> int:
    """The number of words that at least 80 % of the documents of each side have, within the limits of `sample`."""
    typical = min(
        int(np.quantile(words.counts, 1 - _MIN_SHARE, method="lower")) if len(words.counts) else 0 for words in split
    )
    return int(np.clip(typical, sample.min_words, sample.max_words))


def cut_words(words: Words, documents: Iterable[int], length: int) -> list[bytes]:
    """The first `length` words of those `documents`, each of which has so many."""
    firsts = np.cumsum(words.counts) - words.counts
    return [words.data[words.starts[firsts[i]] : words.ends[firsts[i] + length - 1]] for i in documents]


def write_sample(sampled: list[SampledDocument], path: Path) -> None:
    """Write `sampled` as a parquet file."""
    columns = {name: [getattr(item, name) for item in sampled] for name, _ in _FIELDS}
    pq.write_table(pa.table(columns, schema=pa.schema(_FIELDS)), path, compression="zstd")


def read_sample(path: Path) -> list[SampledDocument]:
    """Read the documents that `write_sample` wrote."""
    return [SampledDocument(**row) for row in pq.read_table(path).to_pylist()]


_FIELDS = [
    ("priority", pa.uint64()),
    ("location", pa.string()),
    ("id", pa.string()),
    ("bytes", pa.int64()),
    ("text", pa.string()),
    ("source", pa.string()),
]


_BATCH = 4096
_SEEDS = 1 << 32
_MINHASH_BITS = 32
# MinHash holds some 1.3 KB per shingle of a batch.
_SHINGLES = 4096


class ExactDuplicates:
    """The hashes of documents, each with the place of its first occurrence."""

    def __init__(self, memory: int, folder: Path) -> None:
        self.table = CountTable(memory, folder, "first")
        self._pending: list[tuple[int, int]] = []

    def add(self, document: ShardDocument) -> None:
        """Count `document`."""
        self._pending.append((document.hash, document.place))
        if len(self._pending) == _BATCH:
            self._count()

    def write(self, path: Path) -> None:
        """Write the table to `path`."""
        self._count()
        self.table.write(path)

    def _count(self) -> None:
        if self._pending:
            hashes = np.array([hash_ for hash_, _ in self._pending], np.uint64)
            places = np.array([place for _, place in self._pending], np.int64)
            self.table.add(hashes, np.ones(len(places), np.int64), places)
        self._pending = []


class NearDuplicates:
    """The MinHash bands of documents. The table has one row per document and band.

    Raises:
        MissingPackageError: datasketch is not installed.
    """

    def __init__(self, config: NearDuplicateConfig, seed: int, memory: int, folder: Path) -> None:
        self._config = config
        self.table = CountTable(memory, folder, "separate")
        # Creating the permutations is expensive, so all signatures copy this one.
        self._empty: Any = require("datasketch", extra="audit").MinHash(
            num_perm=config.bands * config.rows, seed=(seed + 1) % _SEEDS, hashfunc=int
        )

    def add(self, document: ShardDocument) -> None:
        """Count `document`, unless it is shorter than one shingle."""
        shingles = _shingles(document.raw, self._config.shingle)
        if not len(shingles):
            return
        signature = self._empty.copy()
        for start in range(0, len(shingles), _SHINGLES):
            signature.update_batch(shingles[start : start + _SHINGLES].tolist())
        bands = _bands(np.asarray(signature.hashvalues, np.uint64), self._config.bands)
        places = np.full(len(bands), document.place, np.int64)
        self.table.add(bands, np.ones(len(bands), np.int64), places)


def _shingles(raw: bytes, length: int) -> Hashes:
    """The 32-bit hashes of all n-grams of `length` words in `raw`."""
    grams = ngrams_of(split_words([raw]), length)[length - 1]
    return np.asarray(pa.array(grams.hashes >> np.uint64(64 - _MINHASH_BITS)).unique().to_numpy())


def _bands(values: Hashes, bands: int) -> Hashes:
    """One hash per band of a signature. The band number is hashed in, so that different bands never match."""
    hashes = mix_bits(np.arange(1, bands + 1, dtype=np.uint64))
    for column in values.reshape(bands, -1).T:
        hashes = mix_bits(extend_grams(hashes, column))
    return hashes
