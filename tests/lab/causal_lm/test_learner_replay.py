"""The regime `replay` as a whole, on a text file and in the embedded world: what is measured, kills, resumes."""

import json

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.lab.restarts import check, check_boundaries, phase_boundaries, rows_of, undisturbed_run
from tests.runs.faults import Fault


def replay(budget, by, **keys):
    return {"regime": {"name": "replay", "real_budget": budget, "by": by, **keys}}


WORLD = {
    "data": {"name": "world", "people": 6, "documents": 30},
    "generation": {"form": {"name": "documents", "new_tokens": 40}},
}
EXTINCTION = {"name": "extinction", "until": 3}
ARMS = {
    "random": {**replay(0.1, {"name": "random"}), **WORLD},
    "extinction": {**replay(0.2, EXTINCTION), **WORLD},
    "golden": {**replay(0.1, {"name": "random"}, real_weight="golden"), **WORLD},
    "surplexity": replay(0.05, {"name": "surplexity"}),
    "pooled": {**replay(0.3, EXTINCTION, base="accumulate"), "generations": 3, "init_from_previous": False},
}
FACTS = {"replayed_documents", "replayed_share", "replayed_share_so_far"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    text = write_stories(tmp_path_factory.mktemp("text"))
    return {"device": "cpu", "seeds": [3], "arms": ARMS, **config_tree(text)}


@pytest.fixture(scope="module")
def files(tree, tmp_path_factory):
    return undisturbed_run(tree, tmp_path_factory.mktemp("every") / "run")[1]


@pytest.fixture(scope="module")
def rows(files):
    return rows_of(files)


def test_every_later_generation_says_what_was_replayed_and_the_first_nothing(rows):
    for (arm, generation), row in rows.items():
        expected = FACTS | ({"expected_loss", "expected_loss_replayed"} if "until" in str(ARMS[arm]) else set())
        everything = FACTS | {"expected_loss", "expected_loss_replayed"}
        assert everything & row.keys() == (expected if generation else set())
        outside = {name for name in row if name.endswith("_outside")}
        # A replay of many of so few stories has all their words.
        assert bool(outside) == bool(generation) or arm == "pooled"
        if generation:
            budget = ARMS[arm]["regime"]["real_budget"]
            assert 0 < row["replayed_share"] <= budget
            assert row["replayed_share"] <= row["replayed_share_so_far"] <= 1
    assert {name for name in rows["random", 1] if name.endswith("_outside")} == {
        "common.rare_fact_coverage_outside", "common.rare_facts_outside",
    }  # fmt: skip


def test_arms_share_generation_0_and_train_on_equal_tokens(rows):
    assert len({rows[arm, 0]["held_out_nll"] for arm in ("random", "extinction", "golden")}) == 1
    units = [rows[arm, 1]["train_units"] for arm in ("random", "extinction", "golden")]
    assert max(units) < 1.5 * min(units)
    # Repeated documents make the training set larger, not the training.
    assert rows["golden", 1]["train_data_units"] > rows["random", 1]["train_data_units"]


def test_the_replayed_documents_are_saved_beside_the_text(files):
    folder = "cells/extinction/3/1/generated/1"
    assert f"{folder}/replayed.npy" in files
    assert set(json.loads(files[f"{folder}/selection.json"])) >= {"expected_loss", "replayed_share"}
    # Real documents are 30; a fifth of their tokens is replayed beside 24 synthetic documents.
    assert len(files[f"{folder}/text.jsonl"].decode().splitlines()) == 24
    assert len(files["cells/pooled/3/2/generated/2/text.jsonl"].decode().splitlines()) == 32


def test_a_document_replayed_again_counts_once_so_far(files, rows):
    folders = [f"cells/pooled/3/{g}/generated/{g}/replayed.npy" for g in (1, 2)]
    sets = [set(np.frombuffer(files[name][128:], np.int64).tolist()) for name in folders]
    share = rows["pooled", 2]["replayed_share_so_far"]
    assert (share > rows["pooled", 1]["replayed_share"]) == bool(sets[1] - sets[0])
    assert rows["pooled", 1]["replayed_share_so_far"] == rows["pooled", 1]["replayed_share"]


def test_a_budget_that_holds_no_document_is_refused_before_a_folder_is_made(tree, tmp_path):
    small = {**tree, "arms": {"small": replay(0.001, {"name": "random"})}}
    with pytest.raises(ConfigError, match=r"regime\.real_budget: 0\.001 of \d+ real tokens are"):
        lab.run(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Restarts: an arm whose later generations need what earlier ones generated and replayed


@pytest.fixture(scope="module")
def config(tree):
    return lab.load(tree, arms=["pooled"])


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return undisturbed_run(config, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.mark.slow
def test_a_run_killed_behind_a_replay_resumes_to_the_same_bytes(config, undisturbed, tmp_path):
    boundaries = [n for n in phase_boundaries(undisturbed[0]) if undisturbed[0][n - 1][1].name == "generated"]
    assert len(boundaries) == 2
    check(config, undisturbed, tmp_path / "run", Fault(boundaries[1] + 1, "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_killed_at_every_phase_boundary_resumes_to_the_same_bytes(after, config, undisturbed, tmp_path):
    check_boundaries(config, undisturbed, tmp_path, after=after)
