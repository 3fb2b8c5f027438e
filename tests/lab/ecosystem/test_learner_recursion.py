"""Whole runs of ecosystems: killed ones end in the same bytes, and models are inputs by their content."""

import json

import pytest

from tailkeep import lab
from tailkeep.lab.learners import sources_of
from tests.lab.causal_lm.tiny import write_stories
from tests.lab.ecosystem.small import ecosystem
from tests.lab.restarts import check, check_boundaries, phase_boundaries, undisturbed_run
from tests.runs.faults import Fault

ARMS = {"pool": {}, "part": {"train_on": "part", "regime": {"name": "regenerate", "fractions": 2}}}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_stories(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def config(text):
    return lab.load({"device": "cpu", "seeds": [3], "arms": ARMS, **ecosystem(text)})


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return undisturbed_run(config, tmp_path_factory.mktemp("undisturbed") / "run")


def test_every_generation_is_measured_as_a_pool_and_member_by_member(undisturbed):
    rows = [json.loads(line) for line in undisturbed[1]["metrics.jsonl"].decode().splitlines()]
    assert [(row["arm"], row["generation"]) for row in rows] == [("part", 0), ("part", 1), ("pool", 0), ("pool", 1)]
    assert {row["learner"] for row in rows} == {"causal_lm"}
    for row in rows:
        assert row["large.held_out_nll"] > 0
        assert row["small.train_units"] > 0
        assert row["members"] == 2


def test_a_model_is_kept_as_one_folder_of_safetensors_a_member(undisturbed):
    models = {name for name in undisturbed[1] if "/model/" in name and name.endswith(".safetensors")}
    assert models == {
        f"cells/{arm}/3/1/model/{member}/model.safetensors" for arm in ARMS for member in ("large", "small")
    }


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bytes(config, undisturbed, tmp_path):
    places = phase_boundaries(undisturbed[0])
    check(config, undisturbed, tmp_path / "run", Fault(places[len(places) // 2] + 1, "killed", half=True))


@pytest.mark.slow
def test_a_run_killed_at_any_boundary_ends_in_the_same_bytes(config, undisturbed, tmp_path):
    check_boundaries(config, undisturbed, tmp_path, after=0)


def test_a_moved_member_is_the_same_input(text, model_folder, tmp_path):
    def fingerprint(folder):
        model = {"name": "pretrained", "path": str(folder)}
        members = [{"name": name, "share": 0.5, "model": model} for name in ("one", "two")]
        return sources_of(lab.load({"device": "cpu", **ecosystem(text, members=members, tokenizer={})}))

    moved = tmp_path / "moved"
    moved.symlink_to(model_folder, target_is_directory=True)
    first = fingerprint(model_folder)
    assert first == fingerprint(moved)
    assert first["baseline"].inputs["members"][1]["model"]["path"].startswith("sha256:")
