"""Counters of one shard: n-grams in buckets, types, frequent n-grams, document lengths, repetition, compression.

Rule: the counts of any two shards can be merged, by sum or by maximum.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tailkeep.data.count_tables import CountTable
from tailkeep.data.hashing import (
    BUCKETS,
    Hashes,
    NGrams,
    NGramTypes,
    Words,
    buckets_of,
    count_distinct_per_document,
    count_documents_with,
    drop_unrepeated,
    group_equal_grams,
    ngrams_of,
    split_words,
)
from tailkeep.data.sketches import DistinctCounter, FrequentItems

ROWS_PER_FILE = 1 << 40
"""More than any file has: the factor of a file's number in a place."""

CHUNK_BYTES = 1 << 20
"""The most bytes counted together: a longer document is split, at white space if it has any."""


@dataclass(frozen=True, slots=True)
class ShardDocument:
    """A document as it is counted.

    Attributes:
        number: its number among the readable documents that are counted together.
        row: its row in its file.
        file: the name of its file in its input.
        file_number: the number of its file among those that are counted together.
    """

    number: int
    row: int
    id: str
    text: str
    raw: bytes
    source: str = ""
    file: str = ""
    file_number: int = 0

    @property
    def place(self) -> int:
        """File number and row in one number, of which `divmod(place, ROWS_PER_FILE)` gives the two."""
        return self.file_number * ROWS_PER_FILE + self.row

    @property
    def hash(self) -> int:
        """64 bits of a cryptographic hash of the text; different texts collide with a probability of 2^-64."""
        return int.from_bytes(hashlib.blake2b(self.raw, digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """Chunks of consecutive documents, each with the number of its document."""

    chunks: list[bytes]
    document_numbers: list[int]


def batch_documents(documents: Iterable[ShardDocument]) -> Iterator[DocumentBatch]:
    """All of `documents` in batches of about `CHUNK_BYTES` bytes."""
    batch, size = DocumentBatch([], []), 0
    for document in documents:
        for chunk in split_document(document.raw):
            batch.chunks.append(chunk)
            batch.document_numbers.append(document.number)
            size += len(chunk)
            if size >= CHUNK_BYTES:
                yield batch
                batch, size = DocumentBatch([], []), 0
    if batch.chunks:
        yield batch


def split_document(raw: bytes) -> Iterator[bytes]:
    """`raw` in chunks of at most `CHUNK_BYTES` bytes, none of which ends within a UTF-8 character."""
    start = 0
    while len(raw) - start > CHUNK_BYTES:
        stop = start + CHUNK_BYTES
        space = max(raw.rfind(character, start + 1, stop) for character in (b" ", b"\n"))
        if space > 0:
            stop = space
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
    """Counts batches of documents; the types take `memory` bytes and spill to files below `folder`."""

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
        # Number, words, n-grams and distinct n-grams of the last document, which the next batch may continue.
        self._last: tuple[int, NDArray[np.int64]] | None = None
        self._types_of_last = np.zeros(0, np.uint64)
        # Of one document, 8 bytes for each run of four words: an array for each of its batches.
        self._runs_of_last: list[Hashes] = []

    @property
    def words(self) -> int:
        """The number of words counted."""
        return int(self._totals[1])

    def add(self, batch: DocumentBatch) -> None:
        """Count `batch`."""
        words = split_words(batch.chunks)
        grams = ngrams_of(words, MAX_N)
        *_, equal_pairs = (self._add_types(grams[length - 1], words, length, batch) for length in (1, 2))
        for length in range(3, MAX_N + 1):
            self._distinct[length].add(grams[length - 1].hashes)
        # The chunks of one document count together.
        firsts = np.flatnonzero(np.diff(batch.document_numbers, prepend=batch.document_numbers[0] - 1))
        document_of = np.repeat(np.arange(len(firsts)), np.diff(firsts, append=len(batch.chunks)))
        runs = np.bincount(document_of[grams[-1].documents], minlength=len(firsts))
        # Most runs need no comparison.
        rest = drop_unrepeated(grams[-1], MAX_N, grams[1], equal_pairs)
        rest = replace(rest, documents=document_of[rest.documents])
        repeats = np.bincount(rest.documents, minlength=len(firsts)) - count_distinct_per_document(rest, len(firsts))
        distinct = runs - repeats
        lengths = [len(ngrams.hashes) for ngrams in grams[:-1]]
        self._totals += [sum(map(len, batch.chunks)), *lengths, runs.sum(), distinct.sum()]
        features = np.stack([np.add.reduceat(words.counts, firsts), runs, distinct], axis=1)
        self._add_documents(batch.document_numbers, features, grams[-1].hashes)

    def counts(self) -> Counts:
        """All counts by name; call it once, at the end."""
        self._complete_last()
        names = ("bytes", "words", "bigrams", "trigrams", "runs", "different_runs")
        counts = dict(zip(names, self._totals[:, None], strict=True))
        counts |= self._histograms
        counts |= {f"buckets/{length}": buckets for length, buckets in self._buckets.items()}
        counts |= {f"most/distinct/{length}": sketch.registers() for length, sketch in self._distinct.items()}
        return counts

    def _add_types(self, grams: NGrams, words: Words, length: int, batch: DocumentBatch) -> NGramTypes:
        equal = group_equal_grams(grams)
        buckets = buckets_of(equal.hashes, BUCKETS)
        # Sums below 2^53 are exact.
        self._buckets[length] += np.bincount(buckets, equal.counts, BUCKETS).astype(np.int64)
        self.frequent[length].add(equal.hashes, equal.counts, lambda items: words.texts(equal.firsts[items], length))
        if length == 1:
            self.types.add(equal.hashes, equal.counts, self._count_documents(grams, equal, batch.document_numbers))
        else:
            self._distinct[length].add(equal.hashes)
        return equal

    def _count_documents(self, grams: NGrams, equal: NGramTypes, numbers: Sequence[int]) -> NDArray[np.int64]:
        """How many documents hold each type (V,) for the first time; a document of several chunks holds it once."""
        documents = np.asarray(numbers, np.int64)[grams.documents]
        frequencies = count_documents_with(replace(grams, documents=documents), equal)

        def held_by(number: int) -> NDArray[np.bool_]:
            held = np.zeros(len(equal.hashes), np.bool_)
            held[equal.numbers[documents == number]] = True
            return held

        new = held_by(numbers[-1])
        if self._last and self._last[0] == numbers[0]:
            seen = np.isin(equal.hashes, self._types_of_last)
            frequencies = frequencies - (seen & held_by(numbers[0]))
            if numbers[0] == numbers[-1]:
                self._types_of_last = np.concatenate([self._types_of_last, equal.hashes[new & ~seen]])
                return frequencies
        self._types_of_last = equal.hashes[new]
        return frequencies

    def _add_documents(self, numbers: Sequence[int], features: NDArray[np.int64], runs: Hashes) -> None:
        """Add the documents of a batch with their `features` (D, 3) and all their `runs` (R,), one after another."""
        if self._last and self._last[0] == numbers[0]:
            self._last = (numbers[0], self._last[1] + features[0])
            self._runs_of_last.append(runs[: features[0, 1]])
            if len(features) == 1:
                return
            features = features[1:]
        self._complete_last()
        self._add_features(features[:-1])
        self._last = (numbers[-1], features[-1])
        # A view would hold the runs of the whole batch.
        self._runs_of_last = [runs[len(runs) - features[-1, 1] :].copy()]

    def _complete_last(self) -> None:
        """Add the last document, of whose batches each has counted its own distinct runs."""
        if self._last is None:
            return
        features = self._last[1]
        if len(self._runs_of_last) > 1:
            runs = np.concatenate(self._runs_of_last)
            runs.sort()
            repeated = features[2] - np.count_nonzero(np.append(True, runs[1:] != runs[:-1])[: len(runs)])
            features[2] -= repeated
            self._totals[-1] -= repeated
        self._add_features(features[None])

    def _add_features(self, features: NDArray[np.int64]) -> None:
        """Add complete documents (D, 3) to the histograms."""
        words, runs, distinct = features.T
        self._histograms["lengths"] += np.bincount(length_bin(words), minlength=LENGTH_BINS)
        has_runs = runs > 0
        # In whole numbers: 1 - 9/10 is less than a tenth.
        bins = (runs - distinct)[has_runs] * REPETITION_BINS // runs[has_runs]
        bins = np.minimum(bins, REPETITION_BINS - 1)
        self._histograms["repetition"] += np.bincount(bins, minlength=REPETITION_BINS)


def length_bin(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of each number of words, four per octave: bin b begins at 2^(b / 4) - 1."""
    return np.asarray(np.floor(BINS_PER_OCTAVE * np.log2(words + 1.0)), np.int64)


def merge_counts(parts: Sequence[Counts]) -> Counts:
    """Merge the counts of several shards: the maximum where a name begins with `most/`, the sum elsewhere."""
    names = sorted({name for part in parts for name in part})
    arrays_by_name = {name: [part[name] for part in parts if name in part] for name in names}
    return {
        name: np.asarray((np.maximum if name.startswith("most/") else np.add).reduce(arrays))
        for name, arrays in arrays_by_name.items()
    }


BLOCK_BYTES = 1 << 17
_LEVELS = {"zlib": 6, "zstd": 3}


class CompressionCounter:
    """Compresses documents, joined by line breaks, in blocks of one size.

    The size is fixed since a longer text compresses better.
    """

    def __init__(self, method: Literal["zlib", "zstd"]) -> None:
        self._codec = None if method == "zlib" else pa.Codec("zstd", compression_level=_LEVELS["zstd"])
        self._buffer = bytearray()
        self._raw = self._compressed = 0

    def add(self, raw: bytes) -> None:
        """Add one document."""
        self._buffer += raw + b"\n"
        if len(self._buffer) < BLOCK_BYTES:
            return
        whole = len(self._buffer) // BLOCK_BYTES * BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            block = bytes(self._buffer[start : start + BLOCK_BYTES])
            self._raw += BLOCK_BYTES
            self._compressed += len(self._compress(block))
        del self._buffer[:whole]

    def counts(self) -> Counts:
        """The bytes of all complete blocks before and after compression."""
        return {"compressed/before": np.array([self._raw]), "compressed/after": np.array([self._compressed])}

    def _compress(self, block: bytes) -> bytes:
        if self._codec is None:
            return zlib.compress(block, _LEVELS["zlib"])
        return bytes(self._codec.compress(block, asbytes=True))
