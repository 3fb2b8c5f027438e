"""Small files are worked on together: fewer forward passes and flushes, and the same bytes whatever happens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.data.corpus import ShardStorage, find_shards
from tailkeep.data.corpus.shards import Shard, bundle_shards
from tailkeep.edit import Task, run
from tailkeep.errors import InputError, StorageError
from tailkeep.scoring.scorer import WindowGroup
from tests.edit.conftest import left_by, lines
from tests.edit.test_damage import flip
from tests.lab.causal_lm.tiny import STORIES
from tests.runs.faults import Fault, FaultyStorage, Killed

FILES = 48
PER_BUNDLE = FILES // 16
# Documents, edits, ids and the manifest.
OUTPUTS = 4


class FaultyShardStorage(FaultyStorage, ShardStorage):
    """A storage for shards that breaks at its n-th operation."""


def rows():
    return [{"id": f"{n}", "text": STORIES[n % len(STORIES)] + f" {n} times."} for n in range(FILES)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Files of one document, some with a name that begins with that of another."""
    folder = tmp_path_factory.mktemp("many") / "in"
    folder.mkdir()
    for number, row in enumerate(rows()):
        name = f"{number - number % 2:03d}.jsonl" + ".jsonl" * (number % 2)
        (folder / name).write_bytes(lines([row], "m"))
    return folder


@pytest.fixture(scope="module")
def undisturbed(many, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(config, many, out)
    return left_by(out)


@pytest.fixture
def passes(monkeypatch):
    """The sizes of the forward passes; `stop` in the list kills before that many."""
    sizes, hidden_states = Passes(), WindowGroup._hidden_states

    def count(self, batch):
        if len(sizes) == sizes.stop:
            raise Killed
        sizes.append(len(batch))
        return hidden_states(self, batch)

    monkeypatch.setattr(WindowGroup, "_hidden_states", count)
    return sizes


class Passes(list):
    stop = -1


def test_small_files_share_forward_passes_and_the_flush_of_folders(many, config, undisturbed, tmp_path, passes):
    storage = FaultyShardStorage()
    outcome = run(config, many, tmp_path / "out", storage=storage)
    assert outcome.counts["documents"] == FILES
    assert len(passes) == FILES // PER_BUNDLE
    flushes = sum(name == "fsync" for name, _ in storage.log)
    # What a run writes once, and the new folders, are the rest.
    assert flushes < FILES * OUTPUTS + FILES // PER_BUNDLE * (OUTPUTS + 2) + 40
    assert left_by(tmp_path / "out") == undisturbed


def test_each_file_has_the_manifest_and_the_documents_that_it_has_alone(many, config, undisturbed, tmp_path):
    for path in sorted(many.iterdir())[: 2 * PER_BUNDLE]:
        run(config, path, tmp_path / path.name)
        alone = left_by(tmp_path / path.name)
        names = [name for name in alone if name.startswith(("documents/", "ids/"))]
        assert len(names) == 2
        assert {name: undisturbed[name] for name in names} == {name: alone[name] for name in names}
        manifest, before = (json.loads(files[f"manifests/{path.name}.json"]) for files in (undisturbed, alone))
        assert manifest["counts"] == before["counts"]
        assert manifest["outputs"].keys() == before["outputs"].keys()


def test_after_a_failure_at_any_operation_a_plain_rerun_leaves_the_same_bytes(many, config, undisturbed, tmp_path):
    counting = FaultyShardStorage()
    run(config, many, tmp_path / "counted", storage=counting)
    for number, n in enumerate(range(20, counting.count + 1, 29)):
        kind = ("killed", "full", "read-only")[number % 3]
        out = tmp_path / str(n)
        with pytest.raises(Killed if kind == "killed" else StorageError):
            run(config, many, out, storage=FaultyShardStorage(Fault(n, kind, half=bool(number % 2))))
        run(config, many, out, storage=FaultyShardStorage())
        assert left_by(out) == undisturbed, n


def test_a_journal_of_work_that_a_kill_finished_goes_with_the_run(config, undisturbed, many, tmp_path):
    counting = FaultyShardStorage()
    run(config, many, tmp_path / "counted", storage=counting)
    last = max(at for at, (name, path) in enumerate(counting.log, 1) if path.parent.name == "manifests")
    after = next(at for at, (name, path) in enumerate(counting.log, 1) if at >= last and name == "fsync")
    with pytest.raises(Killed):
        run(config, many, tmp_path / "killed", storage=FaultyShardStorage(Fault(after, "killed")))
    assert list((tmp_path / "killed" / ".staging").glob("*.journal"))
    run(config, many, tmp_path / "killed")
    assert left_by(tmp_path / "killed") == undisturbed


def test_a_kill_inside_a_bundle_costs_no_forward_pass_twice(many, config, tmp_path, passes):
    small = {**config, "prior": {**config["prior"], "batch_tokens": 48, "window": 48}}
    run(small, many, tmp_path / "whole")
    total = len(passes)
    assert total > FILES // PER_BUNDLE
    passes.clear()
    passes.stop = 5
    with pytest.raises(Killed):
        run(small, many, tmp_path / "killed")
    passes.stop = -1
    run(small, many, tmp_path / "killed")
    assert len(passes) == total
    assert left_by(tmp_path / "killed") == left_by(tmp_path / "whole")


def test_tasks_in_any_order_leave_the_bytes_of_one(many, config, undisturbed, tmp_path):
    outcomes = [run(config, many, tmp_path, task=Task(index, 5)) for index in (3, 0, 4, 2, 1)]
    assert [outcome.complete for outcome in outcomes] == [False] * 4 + [True]
    assert all(outcome.finished % PER_BUNDLE == 0 for outcome in outcomes)
    assert left_by(tmp_path) == undisturbed


@pytest.mark.slow
def test_two_workers_leave_the_bytes_of_one(many, config, undisturbed, tmp_path):
    run(config, many, tmp_path, workers=2)
    assert left_by(tmp_path) == undisturbed


def test_a_damaged_output_is_made_again_with_its_bundle(many, config, undisturbed, tmp_path):
    run(config, many, tmp_path)
    flip(tmp_path / "documents" / "010.jsonl")
    outcome = run(config, many, tmp_path)
    assert outcome.damaged == ("010.jsonl",)
    assert left_by(tmp_path) == undisturbed


def test_a_document_that_cannot_be_read_is_named_by_its_file_and_rejected_there(many, config, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in many.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "020.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"020\.jsonl, line 1: not JSON"):
        run(config, folder, tmp_path / "stopped")
    failures = sorted((tmp_path / "stopped" / "failures").iterdir())
    assert "020.jsonl.json" in {path.name for path in failures}
    assert all("020.jsonl, line 1" in json.loads(path.read_text())["error"] for path in failures)
    skipped = run({**config, "on_error": "skip"}, folder, tmp_path / "skipped")
    assert (skipped.rejected, skipped.counts["written"]) == (1, FILES - 1)
    assert [path.name for path in (tmp_path / "skipped" / "rejects").iterdir()] == ["020.jsonl.jsonl"]
    (folder / "020.jsonl").write_bytes((many / "020.jsonl").read_bytes())
    assert run(config, folder, tmp_path / "again").complete


SHARDS = st.lists(
    st.tuples(
        st.sampled_from(["jsonl", "txt", "parquet"]), st.sampled_from(["none", "none", "gz"]), st.integers(0, 40_000)
    ),
    max_size=200,
)


@given(SHARDS, st.integers(1, 1 << 16), st.booleans(), st.integers(1, 60))
def test_bundles_are_consecutive_small_files_of_one_format_and_side(files, small_bytes, by_side, per_side):
    shards = [
        Shard(f"{number // per_side}/{number:03d}", f"/in/{number}", kind, compression, size)
        for number, (kind, compression, size) in enumerate(files)
    ]
    bundles = bundle_shards(shards, small_bytes=small_bytes, by_side=by_side)
    assert [shard for bundle in bundles for shard in bundle.shards] == shards
    for bundle in bundles:
        if len(bundle.shards) > 1:
            assert len({shard.kind for shard in bundle.shards}) == 1
            assert not by_side or len({shard.name.partition("/")[0] for shard in bundle.shards}) == 1
            assert all(shard.compression == "none" for shard in bundle.shards)
            assert all(shard.size <= min(small_bytes, 1 << 15) for shard in bundle.shards)
            assert len(bundle.shards) <= min(32, len(shards) // 16)


def test_a_file_in_a_folder_that_is_called_as_outputs_are_keeps_its_own(config, tmp_path):
    folder = tmp_path / "in"
    (folder / "ids").mkdir(parents=True)
    for number, row in enumerate(rows()[:34]):
        (folder / f"{number:03d}.jsonl").write_bytes(lines([row], "m"))
    for name in ("a.jsonl", "ids/a.jsonl"):
        (folder / name).write_bytes(lines([{"id": name, "text": STORIES[0]}], "m"))
    run(config, folder, tmp_path / "out")
    for name in ("a.jsonl", "ids/a.jsonl"):
        manifest = json.loads((tmp_path / "out" / "manifests" / f"{name}.json").read_text())
        assert {f"documents/{name}", f"ids/{name}.ids"} <= manifest["outputs"].keys()


def test_parts_of_a_parquet_file_are_no_small_files(tmp_path, corpus):
    shards = find_shards(corpus, row_groups=1) * 20
    assert all(len(bundle.shards) == 1 or not bundle.shards[0].row_groups for bundle in bundle_shards(shards))
