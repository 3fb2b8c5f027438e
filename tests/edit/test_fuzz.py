"""Formats x damage: an edit and a selection end, or say in one line why not; no document is lost."""

import json
from functools import partial

import pytest

from tailkeep import audit, edit
from tests.data.corpus.damage import FORMATS, damaged, error_of, seeded
from tests.edit.conftest import left_by


def damaged_file(folder, name, draw):
    (folder / name).write_bytes(damaged(FORMATS[name], draw))
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_an_edit_of_damage_ends_or_says_why_and_a_rerun_changes_nothing(prior, tmp_path, name):
    config = {"prior": {"path": str(prior), "batch_tokens": 4096}, "on_error": "skip"}
    path, out, outcomes = damaged_file(tmp_path, name, seeded()), tmp_path / "out", []
    error = error_of(lambda: outcomes.append(edit.run(config, path, out)))
    assert "\n" not in error
    before = left_by(out) if out.exists() else {}
    assert error_of(partial(edit.run, config, path, out)) == error
    assert (left_by(out) if out.exists() else {}) == before
    for outcome in outcomes:
        rejects = (out / "rejects").rglob("*.jsonl")
        assert outcome.counts["rejected"] == sum(path.read_bytes().count(b"\n") for path in rejects)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_selection_from_damage_ends_or_says_why(tmp_path, name):
    draw = seeded()
    path, scored, found = damaged_file(tmp_path, name, draw), tmp_path / "scores.jsonl", []
    scores = "".join(json.dumps({"document_id": f"{number}", "score": number / 40}) + "\n" for number in range(40))
    error = error_of(partial(audit.run, {"on_error": "skip"}, path, tmp_path / "audit"))
    for content in (scores.encode(), damaged(scores.encode(), draw)):
        scored.write_bytes(content)
        select = partial(audit.select, tmp_path / "audit", tmp_path / "weights", "scores", scores=scored, skip=True)
        refused = error_of(lambda select=select: found.append(select()))
        assert "\n" not in error + refused
    assert all(0 <= counts.selected <= counts.documents for counts in found)
