"""The language-model laboratory as a whole: wherever it is cut off, it ends with the bytes of an undisturbed run."""

import json

import pytest

from tailkeep import lab
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.lab.restarts import check, check_boundaries, check_two_workers, phase_boundaries, undisturbed_run
from tests.runs.faults import Fault

# safetensors writes the same bytes for the same tensors, so whole cells can be compared.
MATCHED = {"name": "matched", "texts": 8, "steps": 2}
ARMS = {
    "windows": {
        "regime": {"name": "regenerate", "fractions": 2},
        "generation": {"form": {"name": "windows", "context": 6, "new_tokens": 4}, "decoder": {"name": "greedy"}},
        "loss": {"name": "truncated", "threshold": 0.9},
        "evaluation": {"samples": 6, "prompt_tokens": 2, "new_tokens": 8, "first_model": True},
    },
    "documents": {"regime": {"name": "accumulate"}, "init_from_previous": False, "generation": {"decoder": MATCHED}},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    text = write_stories(tmp_path_factory.mktemp("text"))
    return lab.load({"device": "cpu", "seeds": [3], "arms": ARMS, **config_tree(text)})


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return undisturbed_run(config, tmp_path_factory.mktemp("undisturbed") / "run")


def test_every_arm_and_generation_is_finished_and_measured(undisturbed):
    files = undisturbed[1]
    rows = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    assert [(row["arm"], row["generation"]) for row in rows] == [
        ("documents", 0), ("documents", 1), ("windows", 0), ("windows", 1),
    ]  # fmt: skip
    assert all(row["held_out_nll"] > 0 and row["train_units"] > 0 for row in rows)
    assert rows[3]["kept_fraction"] <= 1
    assert rows[1]["train_data_units"] > rows[0]["train_data_units"]


def test_later_generations_are_scored_by_the_first_model(undisturbed):
    rows = [json.loads(line) for line in undisturbed[1]["metrics.jsonl"].decode().splitlines()]
    first, later = rows[2], rows[3]
    assert first["common.first_model_perplexity"] == pytest.approx(first["common.own_perplexity"])
    assert later["common.first_model_perplexity"] != pytest.approx(later["common.own_perplexity"], rel=1e-3)
    assert "common.first_model_perplexity" not in rows[0]
    cells = {name: json.loads(text) for name, text in undisturbed[1].items() if name.endswith("1/metrics.json")}
    tables = {name.split("/")[1]: cell["tables"] for name, cell in cells.items()}
    assert sum(tables["windows"]["first_model"]["counts"]) == 6
    kept = {name for name in undisturbed[1] if name.endswith("0/model/config.json")}
    assert {name.split("/")[1] for name in kept} == {"windows"}


def test_no_file_of_a_run_is_a_pickle(undisturbed):
    assert not [name for name in undisturbed[1] if name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle"))]


def test_a_run_killed_in_the_middle_resumes_to_the_same_bytes(config, undisturbed, tmp_path):
    boundaries = phase_boundaries(undisturbed[0])
    assert len(boundaries) > 10
    for place in (len(boundaries) // 3, 2 * len(boundaries) // 3):
        check(config, undisturbed, tmp_path / str(place), Fault(boundaries[place], "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_killed_at_every_phase_boundary_resumes_to_the_same_bytes(after, config, undisturbed, tmp_path):
    check_boundaries(config, undisturbed, tmp_path, after=after)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "killed"])
def test_a_run_that_fails_at_any_operation_resumes_to_the_same_bytes(kind, config, undisturbed, tmp_path):
    # Every operation of a cheaper learner is tried in tests/lab/test_run_kill_points.py.
    for n in range(1, len(undisturbed[0]) + 1, 7):
        check(config, undisturbed, tmp_path / str(n), Fault(n, kind, half=True))


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(config, undisturbed, tmp_path):
    check_two_workers(config, undisturbed, tmp_path / "run")
