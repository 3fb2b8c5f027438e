"""The words of one shard, counted: n-grams in buckets, types, frequent ones, lengths, repetition.

Rule: all that is kept of a shard can be put together with that of any other: numbers add up or the larger stays.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailkeep.data.count_tables import CountTable
from tailkeep.data.hashing import (
    BUCKETS,
    NGrams,
    Words,
    buckets_of,
    count_distinct_per_document,
    count_documents_with,
    group_equal_grams,
    ngrams_of,
    split_words,
)
from tailkeep.data.sketches import DistinctCounter, FrequentItems

CHUNK_BYTES = 1 << 20
"""The most bytes that are counted together: a longer document is cut, at white space if there is any."""


@dataclass(frozen=True, slots=True)
class ShardDocument:
    """One document: its number among those of the shard that can be read, its row in the file, its id and its text."""

    number: int
    row: int
    id: str
    text: str
    raw: bytes

    @property
    def hash(self) -> int:
        """64 bits of a cryptographic hash: equal texts share it, and different ones with a probability of 2^-64."""
        return int.from_bytes(hashlib.blake2b(self.raw, digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """Pieces of consecutive documents, each with the number of its document."""

    chunks: list[bytes]
    document_numbers: list[int]


def batch_documents(documents: Iterable[ShardDocument]) -> Iterator[DocumentBatch]:
    """All of `documents` in batches of about `CHUNK_BYTES` bytes."""
    batch, size = DocumentBatch([], []), 0
    for document in documents:
        for chunk in split_chunks(document.raw):
            batch.chunks.append(chunk)
            batch.document_numbers.append(document.number)
            size += len(chunk)
            if size >= CHUNK_BYTES:
                yield batch
                batch, size = DocumentBatch([], []), 0
    if batch.chunks:
        yield batch


def split_chunks(raw: bytes) -> Iterator[bytes]:
    """`raw` in chunks of at most `CHUNK_BYTES` bytes, none of which ends within a character of UTF-8."""
    start = 0
    while len(raw) - start > CHUNK_BYTES:
        stop = start + CHUNK_BYTES
        gap = max(raw.rfind(mark, start + 1, stop) for mark in (b" ", b"\n"))
        if gap > 0:
            stop = gap
        while raw[stop] & 0xC0 == 0x80:
            stop -= 1
        yield raw[start:stop]
        start = stop
    yield raw[start:]


Counts = dict[str, NDArray[np.int64]]

MAX_FREQUENT = 1 << 14
MAX_N = 4
LENGTH_BINS, BINS_PER_OCTAVE = 160, 4
REPETITION_BINS = 20


class ShardCounter:
    """Counts batches of one shard; `memory` bytes for the types, runs of which go below `folder`."""

    def __init__(self, memory: int, folder: Path) -> None:
        self.types = CountTable(memory, folder)
        self.frequent = {length: FrequentItems(MAX_FREQUENT) for length in (1, 2)}
        self._buckets = {length: np.zeros(BUCKETS, np.int64) for length in (1, 2)}
        self._distinct = {length: DistinctCounter() for length in range(2, MAX_N + 1)}
        self._histograms = {
            "lengths": np.zeros(LENGTH_BINS, np.int64),
            "repetition": np.zeros(REPETITION_BINS, np.int64),
        }
        self._totals = np.zeros(6, np.int64)
        # Words, n-grams and different n-grams of the document that the next batch may go on with.
        self._open: tuple[int, NDArray[np.int64]] | None = None

    @property
    def words(self) -> int:
        """How many words were counted."""
        return int(self._totals[1])

    def add(self, batch: DocumentBatch) -> None:
        """Count `batch`."""
        words = split_words(batch.chunks)
        grams = ngrams_of(words, MAX_N)
        for length in (1, 2):
            self._add_types(grams[length - 1], words, length)
        for length in range(3, MAX_N + 1):
            self._distinct[length].add(grams[length - 1].hashes)
        runs = np.bincount(grams[-1].documents, minlength=len(batch.chunks))
        different = count_distinct_per_document(grams[-1], len(batch.chunks))
        lengths = [len(some.hashes) for some in grams[:-1]]
        self._totals += [sum(map(len, batch.chunks)), *lengths, runs.sum(), different.sum()]
        self._add_documents(batch.document_numbers, np.stack([words.counts, runs, different], axis=1))

    def counts(self) -> Counts:
        """All numbers by name; call it once, at the end."""
        if self._open:
            self._close(self._open[1][None])
        names = ("bytes", "words", "bigrams", "trigrams", "runs", "different_runs")
        found = dict(zip(names, self._totals[:, None], strict=True))
        found |= self._histograms
        found |= {f"buckets/{length}": counts for length, counts in self._buckets.items()}
        found |= {f"most/distinct/{length}": sketch.registers() for length, sketch in self._distinct.items()}
        return found

    def _add_types(self, grams: NGrams, words: Words, length: int) -> None:
        equal = group_equal_grams(grams)
        buckets = buckets_of(equal.hashes, BUCKETS)
        # Sums below 2^53 are exact.
        self._buckets[length] += np.bincount(buckets, equal.counts, BUCKETS).astype(np.int64)
        self.frequent[length].add(equal.hashes, equal.counts, lambda items: words.texts(equal.firsts[items], length))
        if length == 1:
            self.types.add(equal.hashes, equal.counts, count_documents_with(grams, equal))
        else:
            self._distinct[length].add(equal.hashes)

    def _add_documents(self, document_numbers: Sequence[int], features: NDArray[np.int64]) -> None:
        if self._open and self._open[0] == document_numbers[0]:
            features[0] += self._open[1]
        elif self._open:
            self._close(self._open[1][None])
        starts = np.flatnonzero(np.diff(document_numbers, prepend=document_numbers[0] - 1))
        summed = np.add.reduceat(features, starts)
        self._close(summed[:-1])
        self._open = (document_numbers[-1], summed[-1])

    def _close(self, features: NDArray[np.int64]) -> None:
        """Put whole documents (D, 3) into the histograms."""
        words, runs, different = features.T
        self._histograms["lengths"] += np.bincount(length_bin(words), minlength=LENGTH_BINS)
        has_runs = runs > 0
        share = 1 - different[has_runs] / runs[has_runs]
        bins = np.minimum((share * REPETITION_BINS).astype(np.int64), REPETITION_BINS - 1)
        self._histograms["repetition"] += np.bincount(bins, minlength=REPETITION_BINS)


def length_bin(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of each number of words, four to an octave: bin b begins at 2^(b / 4) - 1."""
    return np.asarray(np.floor(BINS_PER_OCTAVE * np.log2(words + 1.0)), np.int64)


def merge_counts(parts: Sequence[Counts]) -> Counts:
    """The numbers of several shards together: the larger of those whose name begins with `most/`, the sum of others."""
    names = sorted({name for part in parts for name in part})
    together = {name: [part[name] for part in parts if name in part] for name in names}
    return {
        name: np.asarray((np.maximum if name.startswith("most/") else np.add).reduce(arrays))
        for name, arrays in together.items()
    }


# How well consecutive documents compress. Rule: blocks have one size, since a longer text compresses better.


BLOCK_BYTES = 1 << 17
_LEVELS = {"zlib": 6, "zstd": 3}


class CompressionCounter:
    """Compresses the documents of a shard, a line break between two, block by block."""

    def __init__(self, method: Literal["zlib", "zstd"]) -> None:
        self._codec = None if method == "zlib" else pa.Codec("zstd", compression_level=_LEVELS["zstd"])
        self._waiting = bytearray()
        self._raw = self._packed = 0

    def add(self, raw: bytes) -> None:
        """Take one document."""
        self._waiting += raw + b"\n"
        if len(self._waiting) < BLOCK_BYTES:
            return
        whole = len(self._waiting) // BLOCK_BYTES * BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            block = bytes(self._waiting[start : start + BLOCK_BYTES])
            self._raw += BLOCK_BYTES
            self._packed += len(self._pack(block))
        del self._waiting[:whole]

    def counts(self) -> Counts:
        """The bytes of all whole blocks before and after."""
        return {"compressed/before": np.array([self._raw]), "compressed/after": np.array([self._packed])}

    def _pack(self, block: bytes) -> bytes:
        if self._codec is None:
            return zlib.compress(block, _LEVELS["zlib"])
        return bytes(self._codec.compress(block, asbytes=True))
