"""The same bytes whoever works, in whatever order, and however often they are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tailkeep.data.corpus import ShardStorage, find_shards, open_destination, read_finished
from tailkeep.edit import Task, estimate, load, run
from tailkeep.errors import FingerprintError, InputError, StorageError, WorkerError
from tailkeep.scoring.scorer import WindowGroup
from tests.edit.conftest import left_by, write_corpus
from tests.lab.causal_lm.tiny import STORIES
from tests.runs.faults import Fault, FaultyStorage, Killed

REPOSITORY = Path(__file__).parents[2]


class FaultyShardStorage(FaultyStorage, ShardStorage):
    """A storage for shards that breaks at its n-th operation."""


@pytest.fixture(scope="module")
def undisturbed(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(config, corpus, out)
    return left_by(out)


@pytest.mark.slow
def test_two_workers_leave_the_bytes_of_one(corpus, config, undisturbed, tmp_path):
    run(config, corpus, tmp_path, workers=2)
    assert left_by(tmp_path) == undisturbed


def test_array_tasks_in_any_order_leave_the_bytes_of_one(corpus, config, undisturbed, tmp_path):
    outcomes = [run(config, corpus, tmp_path, task=Task(index, 3)) for index in (2, 0, 1)]
    assert [outcome.complete for outcome in outcomes] == [False, False, True]
    assert [outcome.finished for outcome in outcomes] == [1, 3, 4]
    assert left_by(tmp_path) == undisturbed


def test_after_a_failure_at_any_operation_a_plain_rerun_leaves_the_same_bytes(corpus, config, undisturbed, tmp_path):
    counting = FaultyShardStorage()
    run(config, corpus, tmp_path / "counted", storage=counting)
    for number, n in enumerate(range(1, counting.count + 1, 4)):
        kind = ("killed", "full", "read-only")[number % 3]
        out = tmp_path / str(n)
        with pytest.raises(Killed if kind == "killed" else StorageError):
            run(config, corpus, out, storage=FaultyShardStorage(Fault(n, kind, half=bool(number % 2))))
        check_what_is_called_finished(corpus, out)
        assert run(config, corpus, out, storage=FaultyShardStorage()).complete
        assert left_by(out) == undisturbed, n


def check_what_is_called_finished(corpus, out):
    """A manifest tells of files that are there, whole."""
    destination = open_destination(out)
    for shard in find_shards(corpus):
        content = destination.read(f"manifests/{shard.key}.json")
        if content is not None:
            fingerprint = content.decode().split('"fingerprint": "')[1][:64]
            assert read_finished(shard, destination, fingerprint=fingerprint, verify=True)


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the batches that the prior has scored; `stop` in the list breaks before that many."""
    scored, hidden_states = Batches(), WindowGroup._hidden_states

    def count(self, batch):
        if len(scored) == scored.stop:
            raise Killed
        scored.append(len(batch))
        return hidden_states(self, batch)

    monkeypatch.setattr(WindowGroup, "_hidden_states", count)
    return scored


class Batches(list):
    stop = -1


@pytest.fixture
def small_batches(config):
    return {**config, "prior": {**config["prior"], "batch_tokens": 64}}


@pytest.mark.parametrize("done", [1, 4, 9])
def test_no_batch_of_a_shard_is_scored_twice(corpus, small_batches, tmp_path, batches, done):
    batches.stop = done
    with pytest.raises(Killed):
        run(small_batches, corpus, tmp_path / "killed")
    batches.stop = -1
    run(small_batches, corpus, tmp_path / "killed")
    total = len(batches)
    batches.clear()
    run(small_batches, corpus, tmp_path / "undisturbed")
    assert total == len(batches) > 9
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "undisturbed")


def test_a_damaged_journal_costs_time_and_no_byte(corpus, small_batches, tmp_path, batches):
    batches.stop = 5
    with pytest.raises(Killed):
        run(small_batches, corpus, tmp_path / "killed")
    (journal,) = (tmp_path / "killed" / ".staging").glob("*.journal")
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    batches.stop = -1
    run(small_batches, corpus, tmp_path / "killed")
    run(small_batches, corpus, tmp_path / "undisturbed")
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "undisturbed")


def test_a_journal_of_other_bytes_is_not_believed(small_batches, tmp_path, batches):
    file = write_corpus(tmp_path / "in") / "a.jsonl"
    batches.stop = 2
    with pytest.raises(Killed):
        run(small_batches, file, tmp_path / "killed")
    batches.stop = -1
    # The same text in as many bytes: what differs are the ids, by which tokens are sampled.
    file.write_bytes(file.read_bytes().replace(b'"id": "a', b'"id": "z'))
    run(small_batches, file, tmp_path / "killed")
    run(small_batches, file, tmp_path / "undisturbed")
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "undisturbed")


DRIVE = """
import sys
from pathlib import Path
from tailkeep.edit import run

def main():
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], workers=2, observe=lambda p: print(p.done, flush=True))

if __name__ == "__main__":
    main()
"""


def start(tmp_path, config, corpus, out):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "drive.py").write_text(DRIVE)
    arguments = [sys.executable, tmp_path / "drive.py", tmp_path / "config.yaml", corpus, out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_driver_that_is_killed_leaves_no_worker_and_what_it_did_is_kept(corpus, config, undisturbed, tmp_path):
    driver = start(tmp_path, config, corpus, tmp_path / "out")
    assert driver.stdout.readline() == "0\n"
    while int(driver.stdout.readline()) < 1:
        pass
    driver.send_signal(signal.SIGKILL)
    # Workers hold the pipe open as long as they live.
    driver.communicate(timeout=60)
    check_what_is_called_finished(corpus, tmp_path / "out")
    done = []
    assert run(config, corpus, tmp_path / "out", observe=lambda progress: done.append(progress.resumed)).complete
    assert done[0] >= 1
    assert left_by(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_and_the_next_run_goes_on(corpus, config, undisturbed, tmp_path):
    driver = start(tmp_path, config, corpus, tmp_path / "out")
    assert driver.stdout.readline() == "0\n"
    end = time.monotonic() + 60
    while not (workers := children(driver.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(workers[-1], signal.SIGKILL)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode
    assert WorkerError.__name__ in errors
    assert run(config, corpus, tmp_path / "out").complete
    assert left_by(tmp_path / "out") == undisturbed


def children(pid):
    """The worker processes of `pid`, without multiprocessing's own."""
    workers = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "stat").read_text().split(")")[1].split()[1] == str(pid):
                workers += [int(folder.name)] if "spawn_main" in (folder / "cmdline").read_text() else []
        except OSError:
            continue
    return sorted(workers)


def test_a_full_disk_is_named_and_nothing_is_called_finished(corpus, config, tmp_path):
    with pytest.raises(StorageError, match=r"No space left on device\. Nothing finished is lost"):
        run(config, corpus, tmp_path / "out", storage=FaultyShardStorage(Fault(12, "full")))
    assert not (tmp_path / "out" / "manifests").exists()


def test_a_sample_tells_of_the_whole_and_writes_nothing(corpus, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = estimate(load(config), corpus, limit=8)
    assert result.documents == result.outcome.counts["documents"] == 8
    assert result.outcome.counts["flagged"] > 0
    assert result.tokens_per_second > 0
    assert 0.2 < result.bytes / sum(shard.size for shard in find_shards(corpus)) < 20
    assert result.lines()[-1] == "nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_a_sample_of_everything_estimates_what_a_run_takes(corpus, config, tmp_path):
    result = estimate(load(config), corpus / "a.jsonl", limit=1000)
    run(config, corpus / "a.jsonl", tmp_path / "out")
    folders = ("documents", "edits", "ids")
    num_bytes = sum(len(data) for name, data in left_by(tmp_path / "out").items() if name.startswith(folders))
    assert result.bytes == pytest.approx(num_bytes, rel=0.02)


@pytest.fixture(scope="module")
def in_parts(corpus, config, tmp_path_factory):
    """A run that cuts the parquet file of three row groups into three shards."""
    out = tmp_path_factory.mktemp("parts") / "out"
    run({**config, "row_groups": 1}, corpus, out)
    return left_by(out)


def test_a_file_edited_in_parts_is_one_file(corpus, config, undisturbed, in_parts, tmp_path):
    assert not any(name.startswith("parts/") for name in in_parts)
    assert {name for name in in_parts if name.startswith("documents/")} == {
        name for name in undisturbed if name.startswith("documents/")
    }
    (tmp_path / "parts.parquet").write_bytes(in_parts["documents/d.parquet"])
    (tmp_path / "whole.parquet").write_bytes(undisturbed["documents/d.parquet"])
    parts, whole = (pq.ParquetFile(tmp_path / f"{name}.parquet") for name in ("parts", "whole"))
    assert parts.read().equals(whole.read())
    assert parts.num_row_groups == whole.num_row_groups == 3
    assert parts.schema_arrow.metadata.keys() == whole.schema_arrow.metadata.keys()
    (tmp_path / "marked").mkdir()
    shutil.copy(tmp_path / "parts.parquet", tmp_path / "marked")
    with pytest.raises(InputError, match="edited already"):
        run(config, tmp_path / "marked", tmp_path / "again")


def test_ids_of_a_joined_file_are_no_duplicates_of_themselves(config, tmp_path):
    table = pa.table({"id": [f"{n}" for n in range(8)], "text": STORIES[:8]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    first, second = (run({**config, "row_groups": 1}, tmp_path / "x.parquet", tmp_path / "out") for _ in range(2))
    assert first.counts == second.counts


def test_the_counts_of_parts_add_up_to_those_of_the_file(undisturbed, in_parts):
    whole, parts = (json.loads(files["summary.json"])["counts"] for files in (undisturbed, in_parts))
    assert parts == whole


@pytest.mark.slow
def test_parts_joined_after_any_failure_leave_the_same_bytes(corpus, config, in_parts, tmp_path):
    edit_config = {**config, "row_groups": 1}
    counting = FaultyShardStorage()
    run(edit_config, corpus, tmp_path / "counted", storage=counting)
    assert left_by(tmp_path / "counted") == in_parts
    # Joining comes last.
    for n in range(counting.count - 45, counting.count + 1, 2):
        out = tmp_path / str(n)
        with pytest.raises(Killed):
            run(edit_config, corpus, out, storage=FaultyShardStorage(Fault(n, "killed", half=bool(n % 4 < 2))))
        assert run(edit_config, corpus, out).complete
        assert left_by(out) == in_parts, n


def test_a_store_gets_the_bytes_of_a_folder(corpus, config, undisturbed):
    store = fsspec.filesystem("memory")
    try:
        assert run(config, corpus, "memory://bucket/out").complete
        names = [path.removeprefix("/bucket/out/") for path in store.find("/bucket/out")]
        assert {name: store.cat_file(f"/bucket/out/{name}") for name in names} == undisturbed
        with pytest.raises(InputError, match="edited already"):
            run(config, "memory://bucket/out/documents/*.jsonl", "memory://bucket/again")
        with pytest.raises(FingerprintError, match=r"config\.seed"):
            run({**config, "seed": 3}, corpus, "memory://bucket/out")
    finally:
        store.rm("/bucket", recursive=True)
