"""The regime `select` as a whole, on a text file and in the embedded world: what is told, kills, resumes."""

import json

import pytest

from tailkeep import lab
from tailkeep.lab.learners import sources_of
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.lab.restarts import check, check_boundaries, check_two_workers, phase_boundaries, rows_of, undisturbed_run
from tests.runs.faults import Fault


def by(name, **choices):
    return {"regime": {"name": "select", "by": {"name": name, **choices}, "oversampling": 2}}


WINDOWS = {"form": {"name": "windows", "context": 6, "new_tokens": 4}}
WORLD = {"data": {"name": "world", "people": 6, "documents": 30}}
ARMS = {
    "random": {**by("random"), **WORLD},
    "verifier": {**by("verifier", error_rate=0.2, bias="people"), **WORLD},
    "detector": {**by("detector"), **WORLD},
    "surplexity": {**by("surplexity"), "generation": WINDOWS, "record_every": 2, "generations": 3},
    "dsir": {**by("dsir"), "init_from_previous": False},
}
FACTS = {"candidates", "selected_share", "effective_sample_size"}
TOLD = {
    "random": FACTS | {"candidate_true_share", "selected_true_share"},
    "verifier": FACTS | {"candidate_true_share", "selected_true_share", "accepted_share"},
    "detector": FACTS | {"candidate_true_share", "selected_true_share", "detector_accuracy"},
    "surplexity": FACTS,
    "dsir": FACTS,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    pytest.importorskip("sklearn.linear_model")
    text = write_stories(tmp_path_factory.mktemp("text"))
    return {"device": "cpu", "seeds": [3], "arms": ARMS, **config_tree(text)}


@pytest.fixture(scope="module")
def files(tree, tmp_path_factory):
    return undisturbed_run(tree, tmp_path_factory.mktemp("every") / "run")[1]


@pytest.fixture(scope="module")
def rows(files):
    return rows_of(files)


def test_every_generation_after_the_first_tells_what_it_was_selected_from(rows):
    every = set().union(*TOLD.values())
    for (arm, generation), row in rows.items():
        assert every & row.keys() == (TOLD[arm] if generation else set())
        if generation:
            assert row["candidates"] == (60 if arm in {"random", "verifier", "detector"} else 64)
            assert 0 < row["selected_share"] <= 0.5
            assert 1 <= row["effective_sample_size"] <= row["candidates"]


def test_all_arms_select_from_the_same_candidates_at_first_and_train_on_equal_tokens(rows):
    arms = ("random", "verifier", "detector")
    assert len({str(rows[arm, 1].get("candidate_true_share")) for arm in arms}) == 1
    # A training ends with the step that passes its budget, and rows differ in length.
    units = [rows[arm, 1]["train_units"] for arm in arms]
    assert max(units) < 1.5 * min(units)


def test_the_selected_documents_are_as_many_as_the_real_ones_and_can_be_read(files):
    for arm, generation, documents in (("detector", 1, 30), ("surplexity", 2, 32), ("dsir", 1, 32)):
        lines = files[f"cells/{arm}/3/{generation}/generated/{generation}/text.jsonl"].decode().splitlines()
        assert len(lines) == documents
        assert all(set(json.loads(line)) == {"prompt", "text"} for line in lines)


def test_the_detectors_package_is_in_the_fingerprint(tree):
    environments = {arm: source.environment["packages"] for arm, source in sources_of(lab.load(tree)).items()}
    assert [arm for arm, packages in environments.items() if "scikit-learn" in packages] == ["detector"]


# Restarts: one arm that draws by weights and one that takes the highest; the rest is the same for all


@pytest.fixture(scope="module")
def config(tree):
    return lab.load(tree, arms=["detector", "surplexity"])


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return undisturbed_run(config, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.mark.slow
def test_a_run_killed_behind_a_selection_resumes_to_the_same_bytes(config, undisturbed, tmp_path):
    boundaries = [n for n in phase_boundaries(undisturbed[0]) if undisturbed[0][n - 1][1].name == "generated"]
    assert len(boundaries) == 2
    check(config, undisturbed, tmp_path / "run", Fault(boundaries[0] + 1, "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_killed_at_every_phase_boundary_resumes_to_the_same_bytes(after, config, undisturbed, tmp_path):
    check_boundaries(config, undisturbed, tmp_path, after=after)


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(config, undisturbed, tmp_path):
    check_two_workers(config, undisturbed, tmp_path / "run")
