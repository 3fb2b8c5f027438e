"""Language models in a run that grows: what is added gives the bytes of a run made at once."""

import pytest

from tailkeep import lab
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.runs.faults import FaultyStorage, content

ARMS = {
    "baseline": {},
    "stop": {"finetune": {"epochs": 0.1}},
    "truncated": {"loss": {"name": "truncated", "threshold": 0.5}},
}


@pytest.mark.slow
def test_a_second_seed_and_a_third_arm_are_added_and_generation_0_is_shared(tmp_path):
    text = write_stories(tmp_path)

    def run(folder, arms, seeds, generations):
        trained = set()

        def observe(event):
            if event.phase == "train":
                trained.add((event.arm, event.seed, event.generation))

        tree = config_tree(text, generations=generations, seeds=seeds, arms={arm: ARMS[arm] for arm in arms})
        lab.run(tree, tmp_path / folder, storage=FaultyStorage(), observe=observe)
        return trained

    assert len(run("grown", ["baseline", "stop"], [0], 2)) == 3
    assert run("grown", ["baseline", "stop"], [0, 1], 2) == {("baseline", 1, 0), ("baseline", 1, 1), ("stop", 1, 1)}
    added = run("grown", [*ARMS], [0, 1], 3)
    assert {chain for chain in added if chain[2] < 2} == {("truncated", s, g) for s in (0, 1) for g in (0, 1)}
    run("once", [*ARMS], [0, 1], 3)
    grown, once = (content(tmp_path / name / "cells", without=("timings.json",)) for name in ("grown", "once"))
    assert grown == once
