"""Small files are audited together: one set of tables for many files, and the summary that each alone would give."""

import json

import pytest

from tailkeep.audit import run, select
from tailkeep.data.corpus import ShardStorage, Task, job
from tailkeep.data.corpus.shards import Bundle
from tests.audit.conftest import QUICK, as_jsonl, left_by, one_thread, prior
from tests.audit.test_share import human, machine
from tests.runs.faults import FaultyStorage

__all__ = ["one_thread", "prior"]

FILES, PER_FILE = 48, 22
CONFIG = {
    "near_duplicates": {},
    "share": {"by": "file", "resamples": 100},
    "testing": QUICK,
    "sample": {"documents": 40},
    "on_error": "skip",
}


class CountingStorage(FaultyStorage, ShardStorage):
    """A storage for shards that lists its operations."""


def write_many(folder, texts):
    """Files of a few documents, half of them deeper: twins inside a bundle, a line that is no JSON, an empty file."""
    for number in range(FILES):
        path = folder / ("deep/" * (number % 2)) / f"{number:03d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        some = texts[number * PER_FILE : (number + 1) * PER_FILE]
        more = [texts[7 * PER_FILE]] if number == 9 else []
        path.write_bytes(as_jsonl([*some, *more], f"{number}-") + (b"{\n" if number in (5, 7) else b""))
    (folder / "deep" / "empty.jsonl").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder, number = tmp_path_factory.mktemp("many"), FILES * PER_FILE
    texts = {"input": [*human(number // 2, 3), *machine(number // 2, 4)], "reference": human(number, 1),
             "synthetic": machine(number, 2)}  # fmt: skip
    return {side: write_many(folder / side, some) for side, some in texts.items()}


def audit(sides, out, config, **options):
    inputs, further = sides["input"], {side: sides[side] for side in ("reference", "synthetic")}
    return run(config, inputs, out, **further, **options)


@pytest.fixture
def one_by_one(monkeypatch):
    def bundles_of_one(shards, **options):
        del options
        return [Bundle((shard,)) for shard in shards]

    return lambda: monkeypatch.setattr(job, "bundle_shards", bundles_of_one)


def test_the_summary_and_the_tables_are_those_of_files_audited_one_by_one(sides, one_by_one, tmp_path):
    together = audit(sides, tmp_path / "together", CONFIG)
    one_by_one()
    alone = audit(sides, tmp_path / "alone", CONFIG)
    assert together.counts == alone.counts
    assert together.counts["rejected"] == 6
    assert without_hashes(together.summary) == without_hashes(alone.summary)
    assert together.summary["share"]["share"] == pytest.approx(0.5, abs=0.1)
    for kind in ("tables", "rejects"):
        names = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone" / kind).rglob("*.*"))
        # How much too low the counters of frequent pairs may be depends on what is merged.
        names = [name for name in names if name.name not in ("keywords.csv", "frequent.csv")]
        assert names
        for name in names:
            assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    duplicates = (tmp_path / "together" / "tables" / "duplicates.csv").read_text()
    assert "deep/007.jsonl:0" in duplicates
    sources = (tmp_path / "together" / "tables" / "sources.csv").read_text()
    assert sum(row.startswith("deep/") for row in sources.splitlines()) > 5


@pytest.mark.slow
def test_a_prior_scores_every_file_of_a_bundle(sides, prior, one_thread, one_by_one, tmp_path):
    config = {**CONFIG, "prior": {"path": str(prior)}, "share": {"resamples": 100}}
    few = {side: [sides[side] / f"{number:03d}.jsonl" for number in range(0, FILES, 2)] for side in sides}
    together = audit(few, tmp_path / "together", config)
    one_by_one()
    alone = audit(few, tmp_path / "alone", config)
    # The prior's last digits depend on what it reads at once.
    summaries = [without_hashes(json.loads(json.dumps(outcome.summary))) for outcome in (together, alone)]
    assert summaries[0] == approximately(summaries[1])
    scores = [
        sorted(path.relative_to(tmp_path / out) for path in (tmp_path / out / "scores").rglob("*.parquet"))
        for out in ("together", "alone")
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3 * FILES // 2
    counts = select(tmp_path / "together", tmp_path / "weights", method="perplexity", keep=0.5)
    assert (counts.files, counts.documents) == (FILES // 2, FILES // 2 * PER_FILE)


def without_hashes(summary):
    return {key: value for key, value in summary.items() if key != "files"}


def approximately(tree):
    if isinstance(tree, dict):
        return {key: approximately(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [approximately(value) for value in tree]
    return pytest.approx(tree, rel=1e-6) if isinstance(tree, float) else tree


def test_a_file_costs_its_manifest_and_little_else(sides, one_by_one, tmp_path):
    def operations(out):
        storage = CountingStorage()
        run({"on_error": "skip"}, sides["input"], tmp_path / out, storage=storage)
        return storage.count

    together = operations("together")
    tables = list((tmp_path / "together" / "counts").rglob("*.parquet"))
    one_by_one()
    alone = operations("alone")
    assert len(tables) == 17
    assert len(list((tmp_path / "together" / "manifests").rglob("*.json"))) == FILES + 1
    assert together < 0.5 * alone


@pytest.mark.slow
def test_a_damaged_table_is_made_again_with_its_bundle(sides, tmp_path):
    out = tmp_path / "out"
    audit(sides, out, CONFIG)
    before = left_by(out)
    path = sorted((out / "types").rglob("*.parquet"))[2]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    audit(sides, out, CONFIG, verify=True)
    assert left_by(out) == before


@pytest.mark.slow
def test_a_kill_inside_a_bundle_and_tasks_leave_the_same_bytes(sides, tmp_path):
    whole = tmp_path / "whole"
    audit(sides, whole, CONFIG)
    for task in (2, 0, 1):
        audit(sides, tmp_path / "tasks", CONFIG, task=Task(task, 3))
    assert left_by(tmp_path / "tasks") == left_by(whole)
    sorted((tmp_path / "tasks" / "manifests" / "input").rglob("*.json"))[4].unlink()
    audit(sides, tmp_path / "tasks", CONFIG)
    assert left_by(tmp_path / "tasks") == left_by(whole)
