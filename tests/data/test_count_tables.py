"""Count tables that spill to disk against those in memory."""

from collections import Counter

import numpy as np
import pyarrow as pa

from tailkeep.data.count_tables import CountRows, CountTable, merge_rows, read_ranges, write_rows


def test_tables_that_spill_hold_what_those_in_memory_hold(tmp_path):
    rng = np.random.default_rng(3)
    parts = [np.unique(rng.integers(0, 200_000, 100_000, np.uint64)) for _ in range(6)]
    hashes = [part * np.uint64(0x9E3779B97F4A7C15) for part in parts]
    files = []
    for memory in (1, 1 << 30):
        folder = tmp_path / str(memory)
        folder.mkdir()
        table = CountTable(memory, folder)
        for part in hashes:
            table.add(part, np.ones(len(part), np.int64), np.full(len(part), 2))
        table.write(folder / "table.parquet")
        files.append((folder / "table.parquet").read_bytes())
        assert bool(list(folder.glob("run-*"))) == (memory == 1)
    assert files[0] == files[1]
    rows = [merge_rows(parts) for parts in read_ranges([tmp_path / "1" / "table.parquet"], memory=1 << 20)]
    exact = Counter(np.concatenate(hashes).tolist())
    together = merge_rows(rows)
    assert dict(zip(together.hashes.tolist(), together.counts.tolist(), strict=True)) == exact
    assert (together.others == 2 * together.counts).all()


def test_a_range_of_many_files_holds_its_own_rows_and_no_row_group(tmp_path):
    paths = [tmp_path / f"{number}.parquet" for number in range(16)]
    hashes = np.arange(1 << 12, dtype=np.uint64) << np.uint64(52)
    for path in paths:
        write_rows([CountRows(hashes, np.ones(len(hashes), np.int64), np.arange(len(hashes)))], path)
    before = pa.total_allocated_bytes()
    ranges = read_ranges(paths, memory=1 << 21)
    parts = next(ranges)
    assert [len(rows) for rows in parts] == [len(parts[0])] * 16
    assert 0 < len(parts[0]) < len(hashes) / 3
    # The last file may be freed a moment later.
    assert pa.total_allocated_bytes() - before < 3 * 3 * hashes.nbytes
    assert all(column.base is None for rows in parts for column in (rows.hashes, rows.counts, rows.others))
    assert sum(len(rows) for parts in (parts, *ranges) for rows in parts) == 16 * len(hashes)
