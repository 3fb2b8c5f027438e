"""The same bytes for any number of workers, any order and any number of kills."""

import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.audit import Task, run
from tailkeep.data.corpus import ShardStorage
from tailkeep.errors import StorageError
from tests.audit.conftest import left_by, prose, write_jsonl
from tests.runs.faults import Fault, FaultyStorage, Killed

CONFIG = {"near_duplicates": {}, "compression": "zstd"}


class FaultyShardStorage(FaultyStorage, ShardStorage):
    """A storage for shards that breaks at its n-th operation."""


@pytest.fixture(scope="module")
def undisturbed(corpus, reference, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(CONFIG, corpus, out, reference=reference)
    return left_by(out)


def test_two_workers_leave_the_bytes_of_one(corpus, reference, undisturbed, tmp_path):
    run(CONFIG, corpus, tmp_path, reference=reference, workers=2)
    assert left_by(tmp_path) == undisturbed


@pytest.mark.slow
def test_array_tasks_in_any_order_leave_the_bytes_of_one(corpus, reference, undisturbed, tmp_path):
    outcomes = [run(CONFIG, corpus, tmp_path, reference=reference, task=Task(index, 3)) for index in (2, 0, 1)]
    assert [outcome.complete for outcome in outcomes] == [False, False, True]
    assert left_by(tmp_path) == undisturbed


def test_after_a_failure_at_any_operation_a_plain_rerun_leaves_the_same_bytes(corpus, undisturbed, tmp_path):
    counting = FaultyShardStorage()
    run({}, corpus / "a.jsonl", tmp_path / "counted", storage=counting)
    whole = left_by(tmp_path / "counted")
    for number, n in enumerate(range(1, counting.count + 1, 9)):
        kind = ("killed", "full", "read-only")[number % 3]
        out = tmp_path / str(n)
        with pytest.raises(Killed if kind == "killed" else StorageError):
            run({}, corpus / "a.jsonl", out, storage=FaultyShardStorage(Fault(n, kind, half=bool(number % 2))))
        assert run({}, corpus / "a.jsonl", out, storage=FaultyShardStorage()).complete
        assert left_by(out) == whole, n


@pytest.mark.slow
def test_a_store_gets_the_bytes_of_a_folder(corpus, reference, undisturbed):
    store = fsspec.filesystem("memory")
    try:
        assert run(CONFIG, corpus, "memory://bucket/out", reference=reference).complete
        names = [path.removeprefix("/bucket/out/") for path in store.find("/bucket/out")]
        assert {name: store.cat_file(f"/bucket/out/{name}") for name in names} == undisturbed
    finally:
        store.rm("/bucket", recursive=True)


def test_how_a_corpus_is_cut_into_row_groups_changes_no_figure(corpus, tmp_path):
    summaries = []
    for row_groups in (None, 1):
        run({"row_groups": row_groups}, corpus / "d.parquet", tmp_path / str(row_groups))
        summaries.append(json.loads((tmp_path / str(row_groups) / "summary.json").read_text())["input"])
    assert summaries[0] == summaries[1]


def test_a_copy_is_named_by_its_row_in_the_file_also_where_row_groups_are_shards(tmp_path):
    texts = prose(30, words=10, seed=5)
    texts = [*texts, texts[3], texts[17], texts[17]]
    pq.write_table(pa.table({"text": texts}), tmp_path / "g.parquet", row_group_size=7)
    for row_groups in (None, 1):
        run({"row_groups": row_groups}, tmp_path / "g.parquet", tmp_path / str(row_groups))
        table = (tmp_path / str(row_groups) / "tables" / "duplicates.csv").read_text()
        assert table.splitlines() == ["side,copies,first_at", "input,3,g.parquet:17", "input,2,g.parquet:3"]


def test_a_tight_memory_changes_no_byte_of_the_tables(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", prose(400, words=60, seed=4, types=30_000))
    for memory in (16, 1024):
        run({"memory_mb": memory}, path, tmp_path / str(memory))
    outputs = [left_by(tmp_path / str(memory)) for memory in (16, 1024)]
    for files in outputs:
        del files["config.yaml"]
    assert outputs[0] == outputs[1]
