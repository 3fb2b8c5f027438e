"""Duplicate documents: exact ones by hash, near ones by MinHash.

Rule: documents are compared by hashes that are sorted on disk. No pair of documents is ever compared.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tailkeep.audit.config import NearDuplicateConfig
from tailkeep.data.count_tables import CountTable
from tailkeep.data.counters import ShardDocument
from tailkeep.data.hashing import Hashes, extend_grams, mix_bits, ngrams_of, split_words
from tailkeep.optional import require

_BATCH = 4096
_MINHASH_BITS = 32


class ExactDuplicates:
    """The hashes of a shard's documents, each with the row of its first occurrence."""

    def __init__(self, memory: int, folder: Path) -> None:
        self.table = CountTable(memory, folder, "first")
        self._pending: list[tuple[int, int]] = []

    def add(self, document: ShardDocument) -> None:
        """Count `document`."""
        self._pending.append((document.hash, document.row))
        if len(self._pending) == _BATCH:
            self._count()

    def write(self, path: Path) -> None:
        """Write the table to `path`."""
        self._count()
        self.table.write(path)

    def _count(self) -> None:
        if self._pending:
            hashes = np.array([hash_ for hash_, _ in self._pending], np.uint64)
            rows = np.array([row for _, row in self._pending], np.int64)
            self.table.add(hashes, np.ones(len(rows), np.int64), rows)
        self._pending = []


class NearDuplicates:
    """The MinHash bands of a shard's documents. The table has one row per document and band.

    Raises:
        MissingPackageError: datasketch is not installed.
    """

    def __init__(self, config: NearDuplicateConfig, seed: int, memory: int, folder: Path) -> None:
        self._config = config
        self.table = CountTable(memory, folder, "separate")
        # Creating the permutations is expensive, so all signatures copy this one.
        self._empty: Any = require("datasketch", extra="audit").MinHash(
            num_perm=config.bands * config.rows, seed=seed + 1, hashfunc=int
        )

    def add(self, document: ShardDocument) -> None:
        """Count `document`, unless it is shorter than one shingle."""
        shingles = _shingles(document.raw, self._config.shingle)
        if not len(shingles):
            return
        signature = self._empty.copy()
        signature.update_batch(shingles.tolist())
        bands = _bands(np.asarray(signature.hashvalues, np.uint64), self._config.bands)
        rows = np.full(len(bands), document.row, np.int64)
        self.table.add(bands, np.ones(len(bands), np.int64), rows)


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
