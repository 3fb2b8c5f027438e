"""The regime `edit` as a whole, on a text file and in the embedded world: kills, resumes, and what the metrics tell."""

import json

import pytest

from tailkeep import lab
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.lab.restarts import check, check_boundaries, check_two_workers, phase_boundaries, rows_of, undisturbed_run
from tests.runs.faults import Fault

CHANGING = {"name": "edit", "rule": {"name": "random", "share": 0.3}, "sampler": {"exclude_original": True}}
# A model that has hardly been trained gives each of its 300 tokens about 1 / 300.
DELETING = {"name": "edit", "rule": {"threshold": 0.004, "delete_below": 0.0034}, "anchored": False}
WINDOWS = {"form": {"name": "windows", "context": 6, "new_tokens": 4}}
ARMS = {
    "anchored": {"regime": CHANGING},
    "joined": {"regime": DELETING, "generation": WINDOWS, "record_every": 2, "generations": 3},
    "world": {"regime": CHANGING, "data": {"name": "world", "people": 12, "documents": 40}},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    text = write_stories(tmp_path_factory.mktemp("text"))
    return lab.load({"device": "cpu", "seeds": [3], "arms": ARMS, **config_tree(text)})


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return undisturbed_run(config, tmp_path_factory.mktemp("undisturbed") / "run")


def test_every_generation_after_the_first_tells_what_was_flagged_and_what_changed(undisturbed):
    rows = rows_of(undisturbed[1])
    for (arm, generation), row in rows.items():
        assert ("flagged_share" in row) == (generation > 0)
        if generation:
            assert 0 < row["changed_share"] <= 1
            if arm != "joined":
                assert row["cumulative_changed_share"] == row["changed_share"]
    counts = json.loads(undisturbed[1]["cells/joined/3/2/generated/2/edits.json"])
    assert rows["joined", 2]["cumulative_changed_share"] == counts["lost"] / counts["pristine"]
    assert rows["joined", 2]["train_data_units"] < rows["joined", 0]["train_data_units"]


def test_the_edited_text_can_be_read(undisturbed):
    files = undisturbed[1]
    lines = files["cells/world/3/1/generated/1/text.jsonl"].decode().splitlines()
    assert len(lines) == 40
    assert all(set(json.loads(line)) == {"prompt", "text"} for line in lines)


@pytest.mark.slow
def test_a_run_killed_behind_an_edit_resumes_to_the_same_bytes(config, undisturbed, tmp_path):
    boundaries = [n for n in phase_boundaries(undisturbed[0]) if undisturbed[0][n - 1][1].name == "generated"]
    assert len(boundaries) == 3
    check(config, undisturbed, tmp_path / "run", Fault(boundaries[1] + 1, "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_killed_at_every_phase_boundary_resumes_to_the_same_bytes(after, config, undisturbed, tmp_path):
    check_boundaries(config, undisturbed, tmp_path, after=after)


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(config, undisturbed, tmp_path):
    check_two_workers(config, undisturbed, tmp_path / "run")
