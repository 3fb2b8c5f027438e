"""An edited corpus is known for one, and what repeated editing has changed is added up."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from tailkeep.edit import estimate, load, run
from tailkeep.edit.stats import EditOutcome
from tailkeep.errors import InputError


@pytest.fixture(scope="module")
def edited(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("edited") / "out"
    return run(config, corpus, out), out


def test_every_output_carries_a_mark(edited):
    outcome, out = edited
    mark = json.loads((out / "tailkeep.json").read_text())["tailkeep.edit"]
    assert mark == {"run": outcome.fingerprint, "changed_share": outcome.changed_share}
    metadata = pq.read_schema(out / "documents" / "d.parquet").metadata
    assert json.loads(metadata[b"tailkeep.edit"])["run"] == outcome.fingerprint
    assert metadata[b"mine"] == b"kept"


@pytest.mark.parametrize("name", ["a.jsonl", "c.txt", "d.parquet", "deep/b.jsonl.gz"])
def test_an_edited_file_is_refused_as_input(edited, config, tmp_path, name):
    outcome, out = edited
    with pytest.raises(InputError, match=f"edited already, by the run {outcome.fingerprint[:12]}"):
        run(config, out / "documents" / name, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_parquet_file_is_known_without_its_folder(edited, config, tmp_path):
    shutil.copy(edited[1] / "documents" / "d.parquet", tmp_path / "renamed.parquet")
    with pytest.raises(InputError, match="edited already"):
        run(config, tmp_path / "renamed.parquet", tmp_path / "again")


def test_a_mark_that_cannot_be_read_is_a_mark(corpus, config, tmp_path):
    shutil.copy(corpus / "a.jsonl", tmp_path / "a.jsonl")
    (tmp_path / "tailkeep.json").write_text("{}")
    with pytest.raises(InputError, match="edited already"):
        run(config, tmp_path / "a.jsonl", tmp_path / "again")


def test_a_copy_under_another_name_is_known_by_the_anchor_alone(edited, corpus, config, tmp_path):
    _, out = edited
    shutil.copy(out / "documents" / "a.jsonl", tmp_path / "copy.jsonl")
    assert run(config, tmp_path / "copy.jsonl", tmp_path / "unseen").complete
    anchored = {**config, "previous_runs": [str(out)]}
    with pytest.raises(InputError, match=r"copy\.jsonl is a copy of documents/a\.jsonl"):
        run(anchored, tmp_path / "copy.jsonl", tmp_path / "again")
    assert run(anchored, corpus, tmp_path / "pristine").complete


def test_an_anchor_that_is_no_run_is_refused(corpus, config, tmp_path):
    with pytest.raises(InputError, match="holds no manifests"):
        run({**config, "previous_runs": [str(tmp_path)]}, corpus, tmp_path / "out")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", '{"outputs": 3}', "torn"], ids=["deep", "list", "three", "torn"]
)
def test_a_damaged_manifest_of_an_earlier_run_is_named(edited, corpus, config, tmp_path, content):
    _, out = edited
    earlier = shutil.copytree(out, tmp_path / "earlier")
    (earlier / "manifests" / "a.jsonl.json").write_text(content)
    with pytest.raises(
        InputError, match=r"a\.jsonl\.json is no manifest of an edit\. Give the --out of an earlier edit"
    ):
        run({**config, "previous_runs": [str(earlier)]}, corpus, tmp_path / "again")


def test_a_forced_edit_adds_up_what_was_changed(edited, config, tmp_path):
    first, out = edited
    second = run({**config, "force": True}, out / "documents" / "*.jsonl", tmp_path / "again")
    assert second.changed_before == first.changed_share
    assert second.cumulative_share == pytest.approx(first.changed_share + second.changed_share)
    mark = json.loads((tmp_path / "again" / "tailkeep.json").read_text())["tailkeep.edit"]
    assert mark["changed_share"] == second.cumulative_share
    third = run({**config, "force": True}, tmp_path / "again" / "documents" / "*.jsonl", tmp_path / "third")
    assert third.changed_before == second.cumulative_share


def test_a_forced_edit_of_copies_adds_up_what_their_run_changed(edited, config, tmp_path):
    first, out = edited
    for path in (out / "documents").glob("*.jsonl"):
        shutil.copy(path, tmp_path / f"copy-{path.name}")
    forced = {**config, "force": True, "previous_runs": [str(out)]}
    second = run(forced, tmp_path / "copy-*.jsonl", tmp_path / "again")
    assert second.changed_before == first.changed_share
    assert second.cumulative_share == pytest.approx(first.changed_share + second.changed_share)


def test_a_sample_of_an_edited_corpus_is_refused_as_the_run_is(edited, config, tmp_path):
    _, out = edited
    with pytest.raises(InputError, match="edited already"):
        estimate(load(config), out / "documents", limit=2)
    shutil.copy(out / "documents" / "a.jsonl", tmp_path / "copy.jsonl")
    with pytest.raises(InputError, match=r"copy\.jsonl is a copy of"):
        estimate(load({**config, "previous_runs": [str(out)]}), tmp_path / "copy.jsonl", limit=2)
    forced = estimate(load({**config, "force": True}), out / "documents", limit=2)
    assert forced.outcome.changed_before == edited[0].changed_share
    (tmp_path / "tailkeep.json").write_text("{}")
    unknown = estimate(load({**config, "force": True}), tmp_path / "copy.jsonl", limit=2)
    assert any(line.startswith("warning: earlier edits of this corpus left no") for line in unknown.lines())


def test_a_run_that_did_not_end_marks_its_output_too(corpus, config, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.done:
            raise StopError

    with pytest.raises(StopError):
        run(config, corpus, tmp_path / "out", observe=stop)
    with pytest.raises(InputError, match="edited already"):
        run(config, tmp_path / "out" / "documents" / "*.jsonl", tmp_path / "again")
    forced = run({**config, "force": True}, tmp_path / "out" / "documents" / "*.jsonl", tmp_path / "again")
    assert forced.cumulative_share is None
    assert "not known" in forced.warnings()[0]


@pytest.mark.parametrize(("changed", "warned"), [(39, False), (41, True)])
def test_more_than_two_fifths_changed_is_warned_about(changed, warned):
    outcome = EditOutcome("", 1, 1, {"tokens": 200, "changed": changed, "deleted": 0}, changed_before=0.2)
    assert bool(outcome.warnings()) == warned
