"""Documents that are there more than once: exactly, and nearly.

Rule: a document is known by hashes, which wait on the disk; no pair of documents is ever looked at.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tailkeep.audit.config import NearDuplicateConfig
from tailkeep.data.count_tables import CountTable
from tailkeep.data.counters import ShardDocument
from tailkeep.data.hashing import Hashes, extend_grams, mix_bits, ngrams_of, split_words
from tailkeep.optional import require

_TOGETHER = 4096
_MINHASH_BITS = 32


class ExactDuplicates:
    """The hashes of a shard's documents, each with the row where it first stands."""

    def __init__(self, memory: int, folder: Path) -> None:
        self.table = CountTable(memory, folder, "first")
        self._waiting: list[tuple[int, int]] = []

    def add(self, document: ShardDocument) -> None:
        """Count `document`."""
        self._waiting.append((document.hash, document.row))
        if len(self._waiting) == _TOGETHER:
            self._count()

    def write(self, path: Path) -> None:
        """The table at `path`."""
        self._count()
        self.table.write(path)

    def _count(self) -> None:
        if self._waiting:
            hashes = np.array([hash_ for hash_, _ in self._waiting], np.uint64)
            rows = np.array([row for _, row in self._waiting], np.int64)
            self.table.add(hashes, np.ones(len(rows), np.int64), rows)
        self._waiting = []


class NearDuplicates:
    """The bands of a shard's documents; a document has a row in the table for each.

    Raises:
        MissingPackageError: datasketch is not installed.
    """

    def __init__(self, settings: NearDuplicateConfig, seed: int, memory: int, folder: Path) -> None:
        self._settings = settings
        self.table = CountTable(memory, folder, "separate")
        # Its permutations are the costly part of a signature, so all share them.
        self._empty: Any = require("datasketch", extra="audit").MinHash(
            num_perm=settings.bands * settings.rows, seed=seed + 1, hashfunc=int
        )

    def add(self, document: ShardDocument) -> None:
        """Count `document`, unless it is shorter than a run."""
        shingles = _shingles(document.raw, self._settings.shingle)
        if not len(shingles):
            return
        signature = self._empty.copy()
        signature.update_batch(shingles.tolist())
        bands = _bands(np.asarray(signature.hashvalues, np.uint64), self._settings.bands)
        rows = np.full(len(bands), document.row, np.int64)
        self.table.add(bands, np.ones(len(bands), np.int64), rows)


def _shingles(raw: bytes, length: int) -> Hashes:
    """The 32-bit hashes of all runs of `length` words in `raw`."""
    grams = ngrams_of(split_words([raw]), length)[length - 1]
    return np.asarray(pa.array(grams.hashes >> np.uint64(64 - _MINHASH_BITS)).unique().to_numpy())


def _bands(values: Hashes, bands: int) -> Hashes:
    """One hash for each band of a signature; those of different bands never meet."""
    found = mix_bits(np.arange(1, bands + 1, dtype=np.uint64))
    for column in values.reshape(bands, -1).T:
        found = mix_bits(extend_grams(found, column))
    return found


def chance_of_meeting(settings: NearDuplicateConfig, jaccard: float) -> float:
    """The probability with which two documents that share a part `jaccard` of their runs are found."""
    return 1 - (1 - jaccard**settings.rows) ** settings.bands


def typical_jaccard(settings: NearDuplicateConfig) -> float:
    """The shared part at which a pair is found half of the time."""
    return float((-math.expm1(math.log(0.5) / settings.bands)) ** (1 / settings.rows))
