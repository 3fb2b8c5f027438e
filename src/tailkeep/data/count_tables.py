"""Counts by hash on disk: sorted files, merged in ranges of the hash.

Rule: counts are exact at any size. Rows that do not fit into memory go to disk as sorted runs, and the number of runs
changes no byte of a table.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailkeep.data.hashing import Hashes, sort_hashes

Numbers = NDArray[np.int64]

_GROUP = 1 << 16
_ROW_BYTES = 24
# Sorting and merging hold several copies of the rows.
_COPIES = 6
_SCHEMA = pa.schema([("hash", pa.uint64()), ("count", pa.int64()), ("other", pa.int64())])
_SPACE = 1 << 64


@dataclass(frozen=True, eq=False)
class CountRows:
    """Items by ascending hash (V,), their counts, and another number per item.

    For a word the other number is its document frequency, for a document its place.
    """

    hashes: Hashes
    counts: Numbers
    others: Numbers

    def __len__(self) -> int:
        return len(self.hashes)


MergeRule = Literal["sum", "first", "separate"]
"""How rows with equal hashes merge: sum both numbers, sum counts and keep the first other number, or do not merge."""


def merge_rows(parts: Sequence[CountRows], rule: MergeRule = "sum") -> CountRows:
    """The rows of all `parts` in ascending order of the hash, equal hashes in the order of the parts."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    order, firsts = sort_hashes(hashes)
    hashes = hashes[order]
    counts, others = (
        np.concatenate([np.zeros(0, np.int64), *columns])[order]
        for columns in ([part.counts for part in parts], [part.others for part in parts])
    )
    if len(firsts) == 0 or rule == "separate":
        return CountRows(hashes, counts, others)
    others = others[firsts] if rule == "first" else np.add.reduceat(others, firsts)
    return CountRows(hashes[firsts], np.add.reduceat(counts, firsts), others)


class CountTable:
    """Counts in at most about `memory` bytes; runs go to files below the local `folder`."""

    def __init__(self, memory: int, folder: Path, rule: MergeRule = "sum") -> None:
        self._max_rows = max(memory // (_ROW_BYTES * _COPIES), _GROUP)
        self._folder, self._rule = folder, rule
        self._base = merge_rows([])
        self._new: list[CountRows] = []
        self._num_new = 0
        self._runs: list[Path] = []

    def add(self, hashes: Hashes, counts: Numbers, others: Numbers) -> None:
        """Add distinct `hashes` (V,), in any order."""
        self._new.append(CountRows(hashes, counts, others))
        self._num_new += len(hashes)
        # Merging once the new rows are as many as the old moves each row a logarithmic number of times.
        if self._num_new > max(len(self._base), _GROUP):
            self._gather()
            if len(self._base) > self._max_rows:
                self._spill()

    def write(self, path: Path) -> None:
        """All rows, ascending, as a parquet file at `path`."""
        self._gather()
        if not self._runs:
            write_rows([self._base], path)
            return
        self._spill()
        memory = self._max_rows * _ROW_BYTES * _COPIES
        write_rows((merge_rows(parts, self._rule) for parts in read_ranges(self._runs, memory=memory)), path)

    def _gather(self) -> None:
        self._base = merge_rows([self._base, *self._new], self._rule)
        self._new, self._num_new = [], 0

    def _spill(self) -> None:
        self._runs.append(self._folder / f"run-{len(self._runs):06d}.parquet")
        write_rows([self._base], self._runs[-1])
        self._base = merge_rows([])


def write_rows(ranges: Iterator[CountRows] | Sequence[CountRows], path: Path) -> None:
    """Write ascending ranges to `path`, in row groups of one size whatever the sizes of the ranges."""
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd", use_dictionary=False) as writer:
        pending = pa.table([[], [], []], schema=_SCHEMA)
        for rows in ranges:
            columns = [pa.array(rows.hashes), pa.array(rows.counts), pa.array(rows.others)]
            pending = pa.concat_tables([pending, pa.table(columns, schema=_SCHEMA)])
            whole = len(pending) // _GROUP * _GROUP
            if whole:
                writer.write_table(pending.slice(0, whole), row_group_size=_GROUP)
                pending = pending.slice(whole)
        if len(pending):
            writer.write_table(pending, row_group_size=_GROUP)


def read_ranges(paths: Sequence[Path], *, memory: int) -> Iterator[list[CountRows]]:
    """The rows of each file, range by range; hashes are uniform, so equal ranges have about equal sizes."""
    total = sum(pq.read_metadata(path).num_rows for path in paths)
    count = max(1, math.ceil(total * _ROW_BYTES * _COPIES / max(memory, 1)))
    for number in range(count):
        low, high = _SPACE * number // count, _SPACE * (number + 1) // count
        yield [_between(path, low, high) for path in paths]


def read_spectrum(paths: Sequence[Path], *, memory: int) -> Counter[int]:
    """The number of items by count, from the tables at `paths`."""
    spectrum: Counter[int] = Counter()
    for parts in read_ranges(paths, memory=memory):
        values, numbers = np.unique(merge_rows(parts).counts, return_counts=True)
        spectrum.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    return spectrum


def _between(path: Path, low: int, high: int) -> CountRows:
    """The rows of the file at `path` with `low` <= hash < `high`."""
    with pq.ParquetFile(path) as file:
        groups = []
        for number in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(number).column(0).statistics
            if int(statistics.min) < high and int(statistics.max) >= low:
                groups.append(number)
        table = file.read_row_groups(groups)
    hashes = table["hash"].to_numpy()
    start = int(np.searchsorted(hashes, np.uint64(low)))
    stop = len(hashes) if high == _SPACE else int(np.searchsorted(hashes, np.uint64(high)))
    # A view would hold whole row groups of every file at once.
    return CountRows(*(table[name].to_numpy()[start:stop].copy() for name in _SCHEMA.names))
