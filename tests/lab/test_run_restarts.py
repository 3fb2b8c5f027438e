"""Each learner of numbers, killed at every training and evaluation, ends in the same bytes when it is run again."""

import pytest

from tailkeep import lab
from tests.lab.small_lab import outcome, run_though_killed
from tests.runs.faults import FaultyStorage

ACCUMULATE = {"regime": {"name": "accumulate"}}
TREES = {
    "gaussian": {
        "data": {"size": 8, "chains": 3},
        "arms": {
            "relative": {"truncate": {"name": "relative", "width": 0.1}},
            "density": {"truncate": {"name": "density", "threshold": 0.4}},
            "accumulate": ACCUMULATE,
        },
    },
    "mixture": {
        "data": {"size": 60, "modes": 3},
        "components": 3,
        "arms": {"baseline": {}, "drop": {"drop": 0.1}, "accumulate": ACCUMULATE},
    },
    "regression": {
        "data": {"size": 20, "width": 3, "chains": 3},
        "arms": {
            "drop": {"drop": 0.2},
            "disjoint": {"regime": {"name": "revise", "subset": "disjoint", "share": 0.3}},
            "accumulate": ACCUMULATE,
        },
    },
}


@pytest.mark.parametrize("learner", TREES)
def test_a_run_that_was_killed_ends_in_the_same_bytes(learner, tmp_path):
    if learner == "mixture":
        pytest.importorskip("sklearn")
    tree = {"learner": learner, "generations": 3, "record_every": 2, **TREES[learner]}
    lab.run(tree, tmp_path / "whole", storage=FaultyStorage())
    # Three arms, of which generations 0 and 2 have a cell; two of the mixtures share generation 0.
    assert run_though_killed(tree, tmp_path / "killed") == (10 if learner == "mixture" else 12)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
