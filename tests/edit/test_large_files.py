"""Large files are worked on in parts: the same bytes whoever works, and a restart skips the parts that are finished."""

import bz2
import gzip
import json
import queue
from contextlib import contextmanager
from itertools import islice

import fsspec
import pyarrow as pa
import pytest

from tailkeep.audit import run as audit
from tailkeep.audit.select import select
from tailkeep.data.corpus import find_shards
from tailkeep.data.corpus.io import blocks
from tailkeep.edit import Task, run
from tailkeep.edit.shard import ShardEditor
from tailkeep.errors import FingerprintError, InputError
from tailkeep.forecast import run as forecast
from tailkeep.report.edit import read_edit_run
from tailkeep.runs import progress
from tests.edit.conftest import left_by, lines
from tests.edit.test_damage import flip
from tests.edit.test_restarts import FaultyShardStorage
from tests.lab.causal_lm.tiny import STORIES
from tests.runs.faults import Fault, Killed

PART = 150


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Each file is some three parts but the first, which is shorter than one."""
    folder = tmp_path_factory.mktemp("large") / "in"
    folder.mkdir()
    rows = [{"id": f"{n}", "text": text} for n, text in enumerate(STORIES)]
    (folder / "0.jsonl").write_bytes(lines(rows[:2], "a"))
    (folder / "a.jsonl").write_bytes(lines(rows[2:14], "b"))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows[14:24], "c")))
    (folder / "c.txt").write_text("\n".join(STORIES[24:34]) + "\n", encoding="utf-8")
    table = "id,text\n" + "".join(f'd{n},"{text}"\n' for n, text in enumerate(STORIES[30:40]))
    (folder / "d.csv.zst").write_bytes(pa.compress(table.encode(), codec="zstd", asbytes=True))
    return folder


@pytest.fixture(scope="module")
def in_parts(config):
    return {**config, "part_bytes": PART}


@pytest.fixture(scope="module")
def undisturbed(corpus, in_parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(in_parts, corpus, out)
    return out


def keys_of(out, kind="edits", ending=".jsonl"):
    folder = out / kind
    files = [path for path in folder.rglob(f"*{ending}") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix().removesuffix(ending) for path in files)


def unpacked(folder):
    contents = {}
    for shard in find_shards(folder):
        with open(shard.url, "rb") as file:
            contents[shard.name] = b"".join(blocks(file, shard.compression))
    return contents


def test_large_files_are_worked_on_in_parts_and_come_out_as_one_file_each(undisturbed, corpus):
    keys = keys_of(undisturbed)
    assert [key for key in keys if "/" not in key] == ["0.jsonl"]
    assert {key.partition("/")[0] for key in keys} == {path.name for path in corpus.iterdir()}
    assert all(sum(key.startswith(name) for key in keys) >= 2 for name in ("a.jsonl/", "b.jsonl.gz/", "d.csv.zst/"))
    # The parts themselves are gone, and each file has one manifest.
    assert not [path for path in (undisturbed / "parts").rglob("*") if path.is_file()]
    assert keys_of(undisturbed, "manifests", ".json") == sorted(path.name for path in corpus.iterdir())
    assert {path.name for path in (undisturbed / "documents").iterdir()} == {path.name for path in corpus.iterdir()}


def test_unedited_files_in_parts_are_the_bytes_of_the_input(prior, corpus, tmp_path):
    config = {"prior": {"path": str(prior)}, "rule": {"threshold": 0.999}, "part_bytes": PART}
    outcome = run(config, corpus, tmp_path / "out")
    assert outcome.counts["edited"] == 0
    assert outcome.counts["documents"] == 44
    assert unpacked(tmp_path / "out" / "documents") == unpacked(corpus)


def test_a_file_shorter_than_a_part_is_edited_as_ever(config, in_parts, corpus, undisturbed, tmp_path):
    run(config, corpus, tmp_path)
    whole, parts = left_by(tmp_path), left_by(undisturbed)
    for name in ("documents/0.jsonl", "edits/0.jsonl.jsonl", "ids/0.jsonl.ids"):
        assert parts[name] == whole[name]
    counts = [json.loads(files["summary.json"])["counts"] for files in (parts, whole)]
    for name in ("documents", "written", "tokens_read"):
        assert counts[0][name] == counts[1][name]


class OutOfOrder:
    """An executor that takes a few shards at a time and works on the last of them first."""

    @contextmanager
    def open_queue(self):
        yield queue.Queue()

    def run(self, setup, shards, *, meanwhile=None):
        work, waiting = setup(), iter(shards)
        while batch := list(islice(waiting, 4)):
            yield from ((shard, work(shard)) for shard in reversed(batch))


def test_parts_in_any_order_leave_the_same_bytes(in_parts, corpus, undisturbed, tmp_path):
    assert run(in_parts, corpus, tmp_path, executor=OutOfOrder()).complete
    assert left_by(tmp_path) == left_by(undisturbed)


def test_tasks_and_a_store_leave_the_same_bytes(in_parts, corpus, undisturbed, tmp_path):
    for index in (1, 0):
        run(in_parts, corpus, tmp_path, task=Task(index, 2))
    assert left_by(tmp_path) == left_by(undisturbed)
    store = fsspec.filesystem("memory")
    try:
        assert run(in_parts, corpus, "memory://bucket/large").complete
        names = [path.removeprefix("/bucket/large/") for path in store.find("/bucket/large")]
        assert {name: store.cat_file(f"/bucket/large/{name}") for name in names} == left_by(undisturbed)
    finally:
        store.rm("/bucket", recursive=True)


@pytest.mark.slow
def test_two_workers_leave_the_bytes_of_one(in_parts, corpus, undisturbed, tmp_path):
    events = []
    assert run(in_parts, corpus, tmp_path, workers=2, observe=events.append).complete
    assert left_by(tmp_path) == left_by(undisturbed)
    assert (events[-1].done, events[-1].total) == (5, 5)


def test_a_kill_at_any_operation_loses_no_finished_part(in_parts, corpus, undisturbed, tmp_path, monkeypatch):
    counting = FaultyShardStorage()
    run(in_parts, corpus, tmp_path / "counted", storage=counting)
    worked = []
    work = ShardEditor.__call__

    def counted(self, shards, folder, *, limit=None):
        worked.extend(shard.key for shard in shards)
        return work(self, shards, folder, limit=limit)

    monkeypatch.setattr(ShardEditor, "__call__", counted)
    for number, n in enumerate(range(5, counting.count + 1, 53)):
        out = tmp_path / str(n)
        with pytest.raises(Killed):
            run(in_parts, corpus, out, storage=FaultyShardStorage(Fault(n, "killed", half=bool(number % 2))))
        finished = {key for key in keys_of(out, "manifests", ".json") if "/" in key}
        worked.clear()
        assert run(in_parts, corpus, out).complete
        assert not finished & set(worked), n
        assert left_by(out) == left_by(undisturbed), n


def test_a_damaged_part_is_made_again_before_it_is_joined(in_parts, corpus, undisturbed, tmp_path):
    with pytest.raises(Killed):
        run(in_parts, corpus / "a.jsonl", tmp_path, storage=FaultyShardStorage(Fault(60, "killed")))
    part = next(path for path in sorted((tmp_path / "parts").rglob("*")) if path.is_file())
    flip(part)
    outcome = run(in_parts, corpus / "a.jsonl", tmp_path)
    assert outcome.damaged == (part.relative_to(tmp_path / "parts").as_posix(),)
    run(in_parts, corpus / "a.jsonl", tmp_path / "again")
    del undisturbed
    assert (tmp_path / "documents" / "a.jsonl").read_bytes() == (
        tmp_path / "again" / "documents" / "a.jsonl"
    ).read_bytes()


def test_a_damaged_joined_file_is_made_again(in_parts, corpus, undisturbed, tmp_path):
    run(in_parts, corpus, tmp_path)
    flip(tmp_path / "documents" / "b.jsonl.gz")
    outcome = run(in_parts, corpus, tmp_path)
    assert outcome.damaged == ("b.jsonl.gz",)
    assert left_by(tmp_path) == left_by(undisturbed)


def test_another_part_size_is_another_run(in_parts, corpus, undisturbed):
    with pytest.raises(FingerprintError, match=r"config\.part_bytes"):
        run({**in_parts, "part_bytes": PART + 1}, corpus, undisturbed)


def test_a_part_whose_input_changed_is_refused(in_parts, corpus, tmp_path):
    path = tmp_path / "x.jsonl"
    content = (corpus / "a.jsonl").read_bytes()
    path.write_bytes(content)
    with pytest.raises(Killed):
        run(in_parts, path, tmp_path / "out", storage=FaultyShardStorage(Fault(60, "killed")))
    assert any("/" in key for key in keys_of(tmp_path / "out", "manifests", ".json"))
    path.write_bytes(content.replace(b"b2", b"z2", 1))
    with pytest.raises(FingerprintError, match=r"x\.jsonl is no longer what was read"):
        run(in_parts, path, tmp_path / "out")
    path.write_bytes(content)
    assert run(in_parts, path, tmp_path / "out").complete


def test_rejects_and_equal_ids_keep_the_rows_of_the_file(in_parts, tmp_path):
    rows = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(STORIES[:12])]
    rows[7], rows[10] = "no json", json.dumps({"id": "1", "text": "The id of the second document."})
    (tmp_path / "x.jsonl.bz2").write_bytes(bz2.compress("\n".join(rows).encode()))
    with pytest.raises(InputError, match=r"1 document has the id .* such as x\.jsonl\.bz2, document 10"):
        run(in_parts, tmp_path / "x.jsonl.bz2", tmp_path / "stopped")
    outcome = run({**in_parts, "on_error": "skip"}, tmp_path / "x.jsonl.bz2", tmp_path / "out")
    items = [
        json.loads(line)
        for path in sorted((tmp_path / "out" / "rejects").rglob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert [item["row"] for item in items] == [7, 10]
    assert items[0]["where"] == "x.jsonl.bz2, line 8"
    assert items[0]["offset"] == len("\n".join(rows[:7])) + 1
    assert (outcome.rejected, outcome.counts["written"]) == (2, 10)
    again = run({**in_parts, "on_error": "skip"}, tmp_path / "x.jsonl.bz2", tmp_path / "out")
    assert again.counts == outcome.counts


def test_progress_inside_a_file_is_told_in_bytes_and_tokens(in_parts, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_REPORTS", 0.0)
    events = []
    run({**in_parts, "part_bytes": 1 << 20}, corpus / "a.jsonl", tmp_path, observe=events.append)
    size = (corpus / "a.jsonl").stat().st_size
    inside = [event for event in events if event.task == "a.jsonl"]
    assert [event.done for event in inside] == sorted(event.done for event in inside)
    assert {event.total for event in inside} == {size}
    assert (inside[-1].done, inside[-1].unit) == (size, "bytes")
    assert len({event.done for event in inside}) > 5
    counts = json.loads((tmp_path / "summary.json").read_text())["counts"]
    assert 0 < inside[-1].amount <= counts["tokens_read"]
    assert [event.done for event in events if not event.task] == [0, 1]


def test_show_finds_the_context_of_edits_in_parts(undisturbed):
    run = read_edit_run(undisturbed, edits=400)
    of_parts = [text for text in run.texts if text.document[0] in "bc"]
    assert len(of_parts) > 5
    assert all(any(text.unchanged) for text in of_parts)
    assert (run.finished, run.planned) == (5, 5)


def test_parts_change_no_figure_of_audit_selection_and_forecast(corpus, tmp_path):
    reference = tmp_path / "reference.txt"
    reference.write_text("\n".join(reversed(STORIES)))
    summaries, weights = [], []
    for part_bytes in (1 << 20, PART):
        out = tmp_path / str(part_bytes)
        audit({"part_bytes": part_bytes, "near_duplicates": {}}, corpus, out / "audit", reference=reference)
        summary = json.loads((out / "audit" / "summary.json").read_text())
        # The second is the hash of all else, the first too.
        del summary["fingerprint"], summary["sha256"]
        summaries.append(summary)
        forecast({"part_bytes": part_bytes, "generations": 2}, corpus, out / "forecast")
        summaries[-1]["forecast"] = (out / "forecast" / "tables" / "forecast.csv").read_text()
        select(out / "audit", out / "weights", "dsir", inputs=corpus)
        weights.append({path.name: path.stat().st_size for path in (out / "weights").rglob("*.parquet")})
    assert summaries[0] == summaries[1]
    assert weights[0].keys() == weights[1].keys()
    files = keys_of(tmp_path / str(PART) / "audit", "counts/input", ".parquet")
    assert sum(key.startswith("a.jsonl/") for key in files) >= 3
