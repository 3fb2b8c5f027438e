"""A hundred kills of forked processes, at any operation on the disk or forward pass: no byte is lost.

Rule: the prior is loaded once, in the process that forks, and nothing is flushed for real, so that a kill takes
fractions of a second. benchmarks/reliability.py kills an edit under a real prior, from outside.
"""

import gzip
import json
import os
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep import edit
from tailkeep.data.corpus import ShardStorage
from tailkeep.edit.editor import load_model
from tailkeep.scoring.scorer import WindowGroup
from tests.edit.conftest import left_by, lines
from tests.lab.causal_lm.tiny import STORIES
from tests.runs.faults import EXIT_STATUS, Fault, FaultyStorage

KILLS = 100
SEED = 0
SMALL_FILES = 8


class FaultyShardStorage(FaultyStorage, ShardStorage):
    """A storage for shards that breaks at its n-th operation; a forward pass counts as one."""

    def forward(self, hidden_states):
        """`hidden_states`, in which the process may die."""
        result = []
        self._operate("forward", None, lambda: result.append(hidden_states()))
        return result[0]


def write_corpus(folder):
    """Small files in bundles of two, a file in parts, a compressed one, an array, and row groups."""
    rows = [{"id": f"{n}", "text": f"{text} {n}"} for n, text in enumerate(STORIES[:16])]
    (folder / "small").mkdir(parents=True)
    for number in range(SMALL_FILES):
        (folder / "small" / f"{number:02d}.jsonl").write_bytes(lines([rows[number % len(rows)]], f"s{number}-"))
    (folder / "a.jsonl").write_bytes(lines(rows, "a"))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows[:6], "b")))
    (folder / "c.json").write_text(json.dumps([{**row, "id": "c" + row["id"]} for row in rows[:6]], indent=1))
    table = pa.table({"id": [f"d{n}" for n in range(8)], "text": [row["text"] for row in rows[:8]]})
    pq.write_table(table, folder / "d.parquet", row_group_size=2)
    return folder


@pytest.mark.slow
def test_a_hundred_kills_lose_no_byte(prior, config, tmp_path, monkeypatch):
    config = {**config, "part_bytes": 300, "row_groups": 2, "prior": {**config["prior"], "batch_tokens": 64}}
    corpus, model = write_corpus(tmp_path / "in"), load_model(edit.load(config).prior)
    storage, hidden_states = FaultyShardStorage(), WindowGroup._hidden_states
    # So that few files make bundles of two.
    monkeypatch.setattr("tailkeep.data.corpus.shards._BUNDLES", 4)
    monkeypatch.setattr(sys.modules["tailkeep.edit.run"], "load_model", lambda prior: model)
    monkeypatch.setattr(
        WindowGroup, "_hidden_states", lambda self, batch: storage.forward(lambda: hidden_states(self, batch))
    )
    edit.run(config, corpus, tmp_path / "whole", storage=storage)
    total, whole = storage.count, left_by(tmp_path / "whole")
    assert {name for name, _ in storage.log} == {"make", "write", "fill", "fsync", "rename", "remove", "forward"}
    draw = random.Random(SEED)
    # The first points are spread evenly, those of runs that go on are drawn.
    points = [1 + number * total // KILLS for number in range(KILLS)]
    kills = 0
    while kills < KILLS:
        out = tmp_path / f"killed-{kills}"
        for n in (points[kills], *(draw.randint(1, total) for _ in range(draw.randint(0, 1)))):
            storage = FaultyShardStorage(Fault(n, "exit", half=draw.random() < 0.5))
            kills += run_and_die(config, corpus, out, storage)
        storage = FaultyShardStorage()
        edit.run(config, corpus, out, storage=storage)
        assert left_by(out) == whole, (SEED, kills, n)


def run_and_die(config, corpus, out, storage):
    """Edit in a forked process; whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            edit.run(config, corpus, out, storage=storage)
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, EXIT_STATUS)
    return status == EXIT_STATUS
