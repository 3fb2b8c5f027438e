"""Count tables that spill to disk against those in memory."""

from collections import Counter

import numpy as np

from tailkeep.data.count_tables import CountTable, merge_rows, read_ranges


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
