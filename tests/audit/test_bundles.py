"""Small files are audited together: one set of tables for many files, and the summary that each alone would give."""

import json

import pytest

from tailkeep.audit import run, select
from tailkeep.data.corpus import ShardStorage, job
from tailkeep.data.corpus.shards import Bundle
from tests.audit.conftest import as_jsonl, left_by, one_thread, prior, prose
from tests.runs.faults import FaultyStorage

__all__ = ["one_thread", "prior"]

FILES = 48
CONFIG = {"near_duplicates": {}, "share": {"by": "file"}, "testing": {"permutations": 640}, "seed": 3}


class CountingStorage(FaultyStorage, ShardStorage):
    """A storage for shards that lists its operations."""


def write_many(folder, texts):
    """A file for each text, every fifth with the text of the first beside it, some deeper, and one of them empty."""
    for number, text in enumerate(texts):
        path = folder / ("deep/" * (number % 2)) / f"{number:03d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_jsonl([text, texts[0]] if number % 5 == 4 else [text], f"{number}-"))
    (folder / "deep" / "empty.jsonl").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    texts = {side: prose(FILES, words=60, seed=seed) for seed, side in enumerate(("input", "reference", "synthetic"))}
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


def test_the_summary_and_the_tables_are_those_of_files_audited_one_by_one(
    sides, prior, one_thread, one_by_one, tmp_path
):
    config = {**CONFIG, "prior": {"path": str(prior)}}
    together = audit(sides, tmp_path / "together", config)
    one_by_one()
    alone = audit(sides, tmp_path / "alone", config)
    assert together.counts == alone.counts
    assert together.counts["documents"] == 3 * (FILES + FILES // 5)
    # How deep the prior's sums go depends on what it reads at once.
    summaries = [without_hashes(json.loads(json.dumps(outcome.summary))) for outcome in (together, alone)]
    assert summaries[0] == approximately(summaries[1])
    assert together.summary["input"]["exact_duplicates"] == together.summary["input"]["near_duplicates"] == FILES // 5
    for name in ("keywords.csv", "coverage.csv", "lengths.csv"):
        assert (tmp_path / "together/tables" / name).read_text() == (tmp_path / "alone/tables" / name).read_text()
    scores = [
        sorted(path.relative_to(tmp_path / out) for path in (tmp_path / out / "scores").rglob("*.parquet"))
        for out in ("together", "alone")
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3 * (FILES + 1)


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
        run({}, sides["input"], tmp_path / out, storage=storage)
        return storage.count

    together = operations("together")
    tables = list((tmp_path / "together" / "counts").rglob("*.parquet"))
    one_by_one()
    alone = operations("alone")
    assert len(tables) == 17
    assert len(list((tmp_path / "together" / "manifests").rglob("*.json"))) == FILES + 1
    assert together < 0.5 * alone


def test_a_damaged_table_is_made_again_with_its_bundle(sides, tmp_path):
    out = tmp_path / "out"
    audit(sides, out, CONFIG)
    before = left_by(out)
    path = sorted((out / "types").rglob("*.parquet"))[2]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    audit(sides, out, CONFIG, verify=True)
    assert left_by(out) == before


def test_select_finds_the_scores_of_every_file(sides, prior, one_thread, tmp_path):
    config = {"prior": {"path": str(prior)}}
    run(config, sides["input"], tmp_path / "out")
    counts = select(tmp_path / "out", tmp_path / "weights", method="perplexity", keep=0.5)
    assert (counts.files, counts.documents) == (FILES + 1, FILES + FILES // 5)
