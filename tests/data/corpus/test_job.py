"""A shard is finished or not there: whatever fails, a second run leaves the bytes of an undisturbed one."""

import multiprocessing
import os
import resource
import signal
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import fsspec
import pytest

from tailkeep.data.corpus import (
    LocalPool,
    ShardStorage,
    Task,
    check_unique_ids,
    find_shards,
    open_destination,
    read_finished,
    shards_of_task,
    sum_counts,
)
from tailkeep.data.corpus.destination import Output
from tailkeep.data.corpus.unique_ids import DuplicateId, IdList, find_duplicate_ids
from tailkeep.errors import ConfigError, InputError, StorageError, WorkerError
from tests.data.corpus.job import carry, finish, finish_alone, run, small_corpus
from tests.runs.faults import Fault, FaultyStorage, Killed, content, every_fault


class FaultyShardStorage(FaultyStorage, ShardStorage):
    """A storage for shards that breaks at its n-th operation."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("corpus") / "in")


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run(corpus, out)
    return content(out)


# Faults


def test_after_a_failure_at_any_operation_a_plain_rerun_leaves_the_same_bytes(corpus, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for name in ("a.jsonl", "d.parquet"):
        (few / name).write_bytes((corpus / name).read_bytes())
    undisturbed = FaultyShardStorage()
    run(few, tmp_path / "undisturbed", storage=undisturbed)
    assert undisturbed.count > 30
    for number, fault in enumerate(every_fault(undisturbed.count)):
        out = tmp_path / str(number)
        with pytest.raises(Killed if fault.kind == "killed" else StorageError):
            run(few, out, storage=FaultyShardStorage(fault))
        for name, manifest in left_finished(few, out).items():
            assert all(Output.of(out / path) == output for path, output in manifest.outputs.items()), name
        run(few, out, storage=FaultyShardStorage())
        assert content(out) == content(tmp_path / "undisturbed"), fault


def left_finished(corpus, out):
    """What a disturbed run calls finished, by the only thing that counts: its manifests."""
    done = {}
    destination = open_destination(out)
    for shard in find_shards(corpus):
        content = destination.read(f"manifests/{shard.key}.json")
        if content is not None:
            fingerprint = content.decode().split('"fingerprint": "')[1][:64]
            done[shard.key] = read_finished(shard, destination, fingerprint=fingerprint, verify=True)
            assert done[shard.key] is not None
    return done


def test_each_output_is_flushed_before_its_rename_and_the_manifest_comes_last(corpus, tmp_path):
    storage = FaultyShardStorage()
    shard = find_shards(corpus)[0]
    finish(open_destination(tmp_path / "out", storage=storage), shard)
    names = [(name, path.name) for name, path in storage.log]
    manifest = names.index(("rename", "a.jsonl.json"))
    outputs = [at for at, (name, _) in enumerate(names[:manifest]) if name == "rename"]
    assert {names[at][1] for at in outputs} == {"a.jsonl", "a.jsonl.ids"}
    assert all(("fsync", names[at][1]) in names[: outputs[0]] for at in outputs)
    assert {("fsync", "documents"), ("fsync", "ids")} <= set(names[outputs[-1] : manifest])
    assert names[manifest - 1] == ("fsync", "a.jsonl.json.partial")
    assert {name for name, _ in names[manifest + 1 :]} == {"fsync"}


def test_a_full_disk_is_named_and_nothing_is_called_finished(corpus, tmp_path):
    storage = FaultyShardStorage(Fault(3, "full"))
    with pytest.raises(StorageError, match=r"No space left on device\. Nothing finished is lost"):
        run(corpus, tmp_path / "out", storage=storage)
    assert not (tmp_path / "out" / "manifests").exists()


# What counts as finished


def test_a_finished_shard_is_left_alone_and_a_changed_one_done_again(corpus, tmp_path):
    out = tmp_path / "out"
    run(corpus, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    (out / "documents" / "a.jsonl").write_bytes(b"cut off")
    run(corpus, out)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before[path]} == {"a.jsonl", "a.jsonl.ids", "a.jsonl.json"}


def test_an_output_of_the_right_size_and_other_bytes_is_seen_when_asked(corpus, tmp_path):
    destination = open_destination(tmp_path)
    shard = find_shards(corpus)[0]
    work = partial(finish_alone, shard, carry, destination)
    assert read_finished(shard, destination, fingerprint="f") is None
    manifest = work(fingerprint="f")
    assert read_finished(shard, destination, fingerprint="f", verify=True) == manifest
    assert read_finished(shard, destination, fingerprint="other") is None
    path = tmp_path / "documents" / "a.jsonl"
    path.write_bytes(path.read_bytes().swapcase())
    assert read_finished(shard, destination, fingerprint="f") == manifest
    assert read_finished(shard, destination, fingerprint="f", verify=True) is None
    path.unlink()
    assert read_finished(shard, destination, fingerprint="f") is None
    (tmp_path / "manifests" / "a.jsonl.json").write_text("{")
    assert read_finished(shard, destination, fingerprint="f") is None


def test_an_output_that_a_new_run_no_longer_has_is_removed(corpus, tmp_path):
    destination = open_destination(tmp_path)
    shard = find_shards(corpus)[0]

    def with_more(shard, folder):
        (folder / "rejects").mkdir()
        (folder / "rejects" / "old").write_text("x")
        return carry(shard, folder)

    finish_alone(shard, with_more, destination, fingerprint="one")
    assert (tmp_path / "rejects" / "old").exists()
    finish_alone(shard, carry, destination, fingerprint="two")
    assert not (tmp_path / "rejects" / "old").exists()


def test_counts_add_up_over_shards(corpus, tmp_path):
    counts = sum_counts(run(corpus, tmp_path).values())
    assert counts["documents"] == counts["written"] == 21
    assert counts["rejected"] == 0
    assert 0 < counts["edited"] < 21


# Object stores


def test_a_store_gets_each_file_by_one_put_and_the_manifest_last(corpus, tmp_path, undisturbed, monkeypatch):
    store = fsspec.filesystem("memory")
    puts = []
    put, pipe = type(store).put_file, type(store).pipe_file

    def put_file(self, local, path, **options):
        puts.append(path)
        put(self, local, path, **options)

    def pipe_file(self, path, value, **options):
        puts.append(path)
        pipe(self, path, value, **options)

    monkeypatch.setattr(type(store), "put_file", put_file)
    monkeypatch.setattr(type(store), "pipe_file", pipe_file)
    for name in ("mv", "mv_file", "move", "rename", "copy"):
        monkeypatch.setattr(type(store), name, None, raising=False)
    try:
        run(corpus, "memory://bucket/out")
        names = [path.partition("bucket/out/")[2] for path in puts]
        assert sorted(set(names)) == sorted(names)
        assert {name: store.cat_file(f"/bucket/out/{name}") for name in names} == {
            name: value for name, value in undisturbed.items() if value is not None
        }
        for shard in find_shards(corpus):
            assert names.index(f"documents/{shard.name}") < names.index(f"manifests/{shard.name}.json")
        puts.clear()
        run(corpus, "memory://bucket/out")
        assert puts == []
    finally:
        store.rm("/bucket", recursive=True)


def test_a_put_that_fails_leaves_no_manifest(corpus, monkeypatch):
    store = fsspec.filesystem("memory")

    def fail(*_, **__):
        raise OSError(5, "the store is on fire")

    monkeypatch.setattr(type(store), "put_file", fail)
    with pytest.raises(StorageError, match="the store is on fire"):
        run(corpus, "memory://burning/out")
    assert not store.exists("/burning/out/manifests")


def test_an_output_in_an_unknown_store_is_refused():
    with pytest.raises(InputError, match="cannot open nowhere://x"):
        open_destination("nowhere://x")


# Workers


def test_workers_and_tasks_change_no_byte(corpus, tmp_path, undisturbed):
    run(corpus, tmp_path / "two", executor=LocalPool(2))
    assert content(tmp_path / "two") == undisturbed
    for index in (2, 0, 1):
        destination = open_destination(tmp_path / "tasks")
        for shard in reversed(shards_of_task(find_shards(corpus), Task(index, 3))):
            finish(destination, shard)
    assert content(tmp_path / "tasks") == undisturbed


def die_once(marker: Path, shard):
    """Be killed at the second shard, as by want of memory, the first time only."""
    if shard.name == "c.txt" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(open_destination(marker.parent / "out"), shard)


def prepare(work, *arguments):
    return partial(work, *arguments)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_noticed_and_the_next_run_goes_on(corpus, tmp_path, undisturbed, workers):
    setup = partial(prepare, die_once, tmp_path / "marker")
    with pytest.raises(WorkerError, match=r"a worker process was killed \(out of memory\?\)"):
        list(LocalPool(workers).run(setup, find_shards(corpus)))
    open_destination(tmp_path / "out").sweep()
    assert len(list(LocalPool(workers).run(setup, find_shards(corpus)))) == 4
    assert content(tmp_path / "out") == undisturbed


def wait_for_ever(folder: Path, shard):
    (folder / f"{os.getpid()}").touch()
    time.sleep(600)


def drive(folder: Path, corpus: Path):
    list(LocalPool(2).run(partial(prepare, wait_for_ever, folder), find_shards(corpus)))


def test_workers_end_with_a_driver_that_is_killed(corpus, tmp_path):
    driver = multiprocessing.get_context("spawn").Process(target=drive, args=(tmp_path, corpus))
    driver.start()
    workers = eventually(lambda: len(list(tmp_path.iterdir())) == 2 and [int(path.name) for path in tmp_path.iterdir()])
    driver.kill()
    driver.join()
    assert eventually(lambda: not any(is_alive(worker) for worker in workers))


def fail(shard):
    raise InputError(f"{shard.name}: bad")


def fail_at_start():
    raise InputError("no such model")


@pytest.mark.parametrize("executor", [LocalPool(1), LocalPool(2)])
def test_an_error_in_a_worker_arrives_as_it_is(corpus, executor):
    with pytest.raises(InputError, match=": bad"):
        list(executor.run(partial(prepare, fail), find_shards(corpus)))
    with pytest.raises(InputError, match="no such model"):
        list(executor.run(fail_at_start, find_shards(corpus)))


def device(shard):
    time.sleep(0.3)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def test_each_worker_has_its_own_environment(corpus):
    pool = LocalPool(2, environments=[{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}])
    results = pool.run(partial(prepare, device), find_shards(corpus) * 3)
    assert {result for _, result in results} == {"3", "5"}


def test_a_pool_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="workers must be >= 1, got 0"):
        LocalPool(0)
    with pytest.raises(ConfigError, match="environments must be one per worker, got 1 for 2 workers"):
        LocalPool(2, environments=[{}])
    assert list(LocalPool(2).run(fail_at_start, [])) == []


def eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


# Ids across shards


def listed(folder, name, ids, run=3):
    with closing(IdList(run=run)) as taken:
        for row, item in enumerate(ids):
            taken.add(item, row)
        taken.write(folder / name, name)
    return folder / name


def test_an_id_in_two_shards_is_refused_with_both_places(tmp_path):
    one = listed(tmp_path, "one", [f"a{n}" for n in range(20)])
    two = listed(tmp_path, "two", [f"b{n}" for n in range(10)])
    three = listed(tmp_path, "three", ["c", "a7"])
    check_unique_ids({"one": one, "two": two})
    with pytest.raises(InputError, match=r"one, document 7, and three, document 1, from 0"):
        check_unique_ids({"one": one, "two": two, "three": three})


def test_ids_are_listed_alike_however_many_fit_in_memory(tmp_path):
    ids = [f"{n}" for n in range(50)]
    assert len({listed(tmp_path, f"{run}", ids, run).read_bytes() for run in (1, 7, 99)}) == 1
    with pytest.raises(InputError, match="twice, document 3, and twice, document 50"):
        listed(tmp_path, "twice", [*ids, "3"], 7)


def test_ids_of_more_files_than_may_be_open_are_compared(tmp_path):
    names = {40: "twice", 41: "twice", 280: "again", 281: "again"}
    lists = [(f"{n:03d}", listed(tmp_path, f"{n:03d}", [f"own {n}", names.get(n, f"other {n}")])) for n in range(300)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, before[1]))
    try:
        duplicates = sorted(find_duplicate_ids(lists), key=lambda item: item.name)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert duplicates == [DuplicateId("041", 1, "040", 1), DuplicateId("281", 1, "280", 1)]
