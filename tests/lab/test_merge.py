"""Runs and packs joined into one: what they share must agree, and the result is like a run made at once."""

import io
import json
import os

import pytest
from rich.console import Console

from tailkeep import lab
from tailkeep.errors import FingerprintError, InputError
from tailkeep.lab.merge import merge_runs
from tailkeep.report import print_summary
from tailkeep.report.lab.sentences import growth_lines
from tailkeep.runs import RunDirectory, hash_tree
from tailkeep.runs.pack import write_pack
from tests.lab.test_growth import run
from tests.runs.faults import FaultyStorage, content


def merged(*paths, **options):
    out = paths[0].parent / "merged"
    return merge_runs(paths, out, storage=FaultyStorage(), **options)


def tables_of(path):
    """The summary without what it says about how the run grew."""
    buffer = io.StringIO()
    print_summary(path, Console(file=buffer, width=120))
    return [line for line in buffer.getvalue().splitlines() if not line.startswith("This run grew")]


@pytest.fixture
def parts(tmp_path):
    """Two runs that share an arm and a seed, and one run of all that they have."""
    run(tmp_path / "a", ("replace", "accumulate"), seeds=[0, 1])
    run(tmp_path / "b", ("replace", "other"), seeds=[1])
    run(tmp_path / "whole", ("replace", "accumulate"), seeds=[0, 1])
    run(tmp_path / "whole", ("replace", "other"), seeds=[1])
    return tmp_path / "a", tmp_path / "b"


def test_a_merged_run_has_the_generations_of_a_run_made_at_once(parts, tmp_path):
    result = merged(*parts)
    for name in ("cells", "config.yaml", "metrics.jsonl"):
        path, other = result.path / name, tmp_path / "whole" / name
        if path.is_dir():
            assert content(path, without=("timings.json",)) == content(other, without=("timings.json",))
        else:
            assert path.read_bytes() == other.read_bytes()
    assert result.record.chains == RunDirectory.open(tmp_path / "whole").record.chains
    assert tables_of(result.path) == tables_of(tmp_path / "whole")
    assert result.record.history[-1].merged == ("a", "b")


def test_a_merged_run_can_grow(parts):
    result = merged(*parts)
    run(result.path, ("other",), seeds=[1], generations=4)
    assert result.generation_dir("other", 1, 3).done


def test_nothing_is_written_into_the_runs_and_nothing_is_copied_that_can_be_linked(parts):
    before = [content(path) for path in parts]
    result = merged(*parts)
    assert [content(path) for path in parts] == before
    name = "cells/replace/0/2/model/generation"
    assert os.path.samefile(result.path / name, parts[0] / name)


def test_packs_and_runs_are_merged_into_a_pack_with_the_same_tables(parts, tmp_path):
    whole = merged(*parts)
    write_pack(parts[1], tmp_path / "pack")
    result = merge_runs([parts[0], tmp_path / "pack"], tmp_path / "joined")
    assert result.record.packed
    assert not list(result.path.rglob("model"))
    assert tables_of(result.path) == tables_of(whole.path)


def test_an_arm_of_one_name_must_be_one_arm(tmp_path):
    run(tmp_path / "a", ("other",))
    run(tmp_path / "b", ("other",), options={"other": {"options": {"other": 2}}})
    with pytest.raises(FingerprintError, match=r"arms.other.options.other: 1 there, 2 here"):
        merged(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "merged").exists()


def test_an_arm_may_have_more_generations_in_one_of_them(tmp_path):
    run(tmp_path / "a", ("other",), generations=2)
    run(tmp_path / "b", ("other",), generations=4)
    result = merged(tmp_path / "a", tmp_path / "b")
    assert [cell.generation for cell in result.generation_dirs()] == [0, 1, 2, 3]
    assert lab.load(result.path / "config.yaml").arms["other"].generations == 4


def test_a_generation_with_other_metrics_is_refused(parts):
    path = parts[1] / "cells/replace/1/2/metrics.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "metrics": {**tree["metrics"], "mean": 7.0}}))
    RunDirectory.open(parts[1]).generation_dir("replace", 1, 2).finish()  # else the file would be damaged
    message = r"parts_a and parts_b have different metrics of generation 2 of replace, seed 1\."
    message = message.replace("parts_a", str(parts[0])).replace("parts_b", str(parts[1]))
    with pytest.raises(FingerprintError, match=message):
        merged(*parts)


def test_a_run_that_is_merged_with_a_pack_is_named_by_its_own_path(tmp_path):
    run(tmp_path / "a", ("replace",), generations=2)
    run(tmp_path / "b", ("replace",), generations=2, options={"replace": {"version": "2"}})
    pack = write_pack(tmp_path / "a", tmp_path / "pack").path
    with pytest.raises(FingerprintError, match=f"{pack} and {tmp_path / 'b'} have other arms of one name"):
        merged(pack, tmp_path / "b")


def test_other_environments_are_refused_unless_accepted_and_then_reported(tmp_path, monkeypatch):
    run(tmp_path / "a", ("other",))
    monkeypatch.setattr("tailkeep.lab.learners.versions", lambda *_: {"numpy": "0.1"})
    run(tmp_path / "b", ("replace",))
    with pytest.raises(FingerprintError, match="different environments"):
        merged(tmp_path / "a", tmp_path / "b")
    result = merged(tmp_path / "a", tmp_path / "b", accept_versions=True)
    buffer = io.StringIO()
    print_summary(result.path, Console(file=buffer, width=200))
    assert "merged from a and b; another environment accepted: packages.numpy" in buffer.getvalue()


def older(path):
    """A run as it was written before generations had fingerprints."""
    tree = json.loads((path / "run.json").read_text())
    del tree["history"]
    (environment,) = tree["sources"].pop("environments").values()
    tree["sources"] |= environment
    for arm in tree["sources"]["arms"].values():
        arm["generations"] = 3
    tree["fingerprint"] = hash_tree(tree["sources"])
    (path / "run.json").write_text(json.dumps(tree))
    for file in path.rglob("fingerprint.json"):
        file.unlink()
    return path


def test_older_runs_without_fingerprints_can_be_merged(parts, tmp_path):
    result = merged(older(parts[0]), parts[1])
    assert tables_of(result.path) == tables_of(tmp_path / "whole")
    assert result.record.chains == RunDirectory.open(tmp_path / "whole").record.chains


def test_what_was_computed_again_is_not_planned_twice(tmp_path):
    run(tmp_path / "a", ("other",), generations=4)
    changed = {"options": {"other": {"options": {"other": 2}}}}
    run(tmp_path / "a", ("other",), recompute=["other"], **changed)
    run(tmp_path / "b", ("other",), seeds=[2], **changed)
    result = merged(tmp_path / "a", tmp_path / "b")
    assert result.record.chains == {("other", 0): 3, ("other", 2): 3}
    # Nor after it was merged again.
    run(tmp_path / "c", ("replace",))
    again = merge_runs([result.path, tmp_path / "c"], tmp_path / "again")
    assert again.record.chains == {**result.record.chains, ("replace", 0): 3}


def test_a_merged_run_says_what_was_computed_again_in_one_of_them(tmp_path, monkeypatch):
    changed = {"options": {"other": {"options": {"other": 2}}}}
    for day, folder, options in (
        (1, "a", {}),
        (2, "b", {"seeds": [2], **changed}),
        (3, "a", {"recompute": ["other"], **changed}),
    ):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(1800000000 + 86400 * day))
        run(tmp_path / folder, ("other",), **options)
    result = merged(tmp_path / "a", tmp_path / "b")
    assert result.record.chains == {("other", 0): 3, ("other", 2): 3}
    lines = growth_lines(result.record.history)
    assert lines[1:] == ("2027-01-18: other computed again.", "2027-01-18: merged from a and b.")
    run(result.path, ("other",), seeds=[0, 2], recompute=["other"], options={"other": {"options": {"other": 3}}})
    assert result.record.chains == {("other", 0): 3, ("other", 2): 3}


def test_a_folder_that_is_there_is_not_touched(parts, tmp_path):
    with pytest.raises(InputError, match="is there already"):
        merge_runs(parts, tmp_path / "whole")
