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

from tailkeep.data.count_tables import Table
from tailkeep.data.hashing import (
    BUCKETS,
    Grams,
    Words,
    buckets_of,
    distinct_in_documents,
    documents_with,
    equal_grams,
    grams_of,
    words_of,
)
from tailkeep.data.sketches import Distinct, Frequent

PIECE = 1 << 20
"""The most bytes that are counted together: a longer document is cut, at white space if there is any."""


@dataclass(frozen=True, slots=True)
class Document:
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
class Batch:
    """Pieces of consecutive documents, each with the number of its document."""

    pieces: list[bytes]
    owners: list[int]


def batches_of(documents: Iterable[Document]) -> Iterator[Batch]:
    """All of `documents` in batches of about `PIECE` bytes."""
    batch, size = Batch([], []), 0
    for document in documents:
        for piece in pieces_of(document.raw):
            batch.pieces.append(piece)
            batch.owners.append(document.number)
            size += len(piece)
            if size >= PIECE:
                yield batch
                batch, size = Batch([], []), 0
    if batch.pieces:
        yield batch


def pieces_of(raw: bytes) -> Iterator[bytes]:
    """`raw` in pieces of at most `PIECE` bytes, none of which ends within a character of UTF-8."""
    start = 0
    while len(raw) - start > PIECE:
        stop = start + PIECE
        gap = max(raw.rfind(mark, start + 1, stop) for mark in (b" ", b"\n"))
        if gap > 0:
            stop = gap
        while raw[stop] & 0xC0 == 0x80:
            stop -= 1
        yield raw[start:stop]
        start = stop
    yield raw[start:]


Counts = dict[str, NDArray[np.int64]]

FREQUENT = 1 << 14
LONGEST = 4
LENGTH_BINS, PER_OCTAVE = 160, 4
REPETITION_BINS = 20


class Counting:
    """Counts batches of one shard; `memory` bytes for the types, runs of which go below `folder`."""

    def __init__(self, memory: int, folder: Path) -> None:
        self.types = Table(memory, folder)
        self.frequent = {length: Frequent(FREQUENT) for length in (1, 2)}
        self._buckets = {length: np.zeros(BUCKETS, np.int64) for length in (1, 2)}
        self._distinct = {length: Distinct() for length in range(2, LONGEST + 1)}
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

    def add(self, batch: Batch) -> None:
        """Count `batch`."""
        words = words_of(batch.pieces)
        grams = grams_of(words, LONGEST)
        for length in (1, 2):
            self._add_types(grams[length - 1], words, length)
        for length in range(3, LONGEST + 1):
            self._distinct[length].add(grams[length - 1].hashes)
        runs = np.bincount(grams[-1].documents, minlength=len(batch.pieces))
        different = distinct_in_documents(grams[-1], len(batch.pieces))
        lengths = [len(some.hashes) for some in grams[:-1]]
        self._totals += [sum(map(len, batch.pieces)), *lengths, runs.sum(), different.sum()]
        self._add_documents(batch.owners, np.stack([words.counts, runs, different], axis=1))

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

    def _add_types(self, grams: Grams, words: Words, length: int) -> None:
        equal = equal_grams(grams)
        buckets = buckets_of(equal.hashes, BUCKETS)
        # Sums below 2^53 are exact.
        self._buckets[length] += np.bincount(buckets, equal.counts, BUCKETS).astype(np.int64)
        self.frequent[length].add(equal.hashes, equal.counts, lambda items: words.texts(equal.firsts[items], length))
        if length == 1:
            self.types.add(equal.hashes, equal.counts, documents_with(grams, equal))
        else:
            self._distinct[length].add(equal.hashes)

    def _add_documents(self, owners: Sequence[int], features: NDArray[np.int64]) -> None:
        if self._open and self._open[0] == owners[0]:
            features[0] += self._open[1]
        elif self._open:
            self._close(self._open[1][None])
        starts = np.flatnonzero(np.diff(owners, prepend=owners[0] - 1))
        summed = np.add.reduceat(features, starts)
        self._close(summed[:-1])
        self._open = (owners[-1], summed[-1])

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
    return np.asarray(np.floor(PER_OCTAVE * np.log2(words + 1.0)), np.int64)


def merge_counts(parts: Sequence[Counts]) -> Counts:
    """The numbers of several shards together: the larger of those whose name begins with `most/`, the sum of others."""
    names = sorted({name for part in parts for name in part})
    together = {name: [part[name] for part in parts if name in part] for name in names}
    return {
        name: np.asarray((np.maximum if name.startswith("most/") else np.add).reduce(arrays))
        for name, arrays in together.items()
    }


# How well consecutive documents compress. Rule: blocks have one size, since a longer text compresses better.


BLOCK = 1 << 17
_LEVELS = {"zlib": 6, "zstd": 3}


class Compressing:
    """Compresses the documents of a shard, a line break between two, block by block."""

    def __init__(self, method: Literal["zlib", "zstd"]) -> None:
        self._codec = None if method == "zlib" else pa.Codec("zstd", compression_level=_LEVELS["zstd"])
        self._waiting = bytearray()
        self._raw = self._packed = 0

    def add(self, raw: bytes) -> None:
        """Take one document."""
        self._waiting += raw + b"\n"
        if len(self._waiting) < BLOCK:
            return
        whole = len(self._waiting) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            block = bytes(self._waiting[start : start + BLOCK])
            self._raw += BLOCK
            self._packed += len(self._pack(block))
        del self._waiting[:whole]

    def counts(self) -> Counts:
        """The bytes of all whole blocks before and after."""
        return {"compressed/before": np.array([self._raw]), "compressed/after": np.array([self._packed])}

    def _pack(self, block: bytes) -> bytes:
        if self._codec is None:
            return zlib.compress(block, _LEVELS["zlib"])
        return bytes(self._codec.compress(block, asbytes=True))
