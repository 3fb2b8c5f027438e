"""The estimate of a language model's run: a few steps of every loop stand for all of them."""

import importlib

import pytest

from tailkeep import lab
from tailkeep.runs.progress import watch_loops
from tests.lab.causal_lm.tiny import config_tree, write_stories

estimate_module = importlib.import_module("tailkeep.lab.estimate")  # the package names the function so


@pytest.fixture
def config(tmp_path):
    tree = config_tree(
        write_stories(tmp_path),
        training={"block": 8, "batch": 1, "epochs": 3},
        generation={"form": {"name": "documents", "new_tokens": 6}, "batch": 2},
        arms={"baseline": {}, "truncated": {"loss": {"name": "truncated", "threshold": 0.5}}},
    )
    return lab.load(tree)


def test_loops_are_left_early_and_their_totals_are_known(config, monkeypatch):
    monkeypatch.setattr(estimate_module, "_MIN_SECONDS", 0.0)
    ends = {}

    def watch(progress):
        ends[progress.unit, progress.total] = progress.done

    with watch_loops(watch):
        whole = lab.estimate(config)
    assert {done for (unit, total), done in ends.items() if unit == "steps" and total > 50} == {3}
    assert min(done for (unit, total), done in ends.items() if unit == "texts" and total > 20) <= 6
    # Arms that differ in their loss alone are timed once.
    assert whole.arms[0].later is whole.arms[1].later
    assert set(whole.arms[0].later.seconds) == {"generate", "train", "sample", "measure"}
    assert whole.arms[0].later.seconds["train"] > 0
    assert whole.finished_bytes > 2 * whole.arms[0].later.model_bytes > 0


def test_a_run_never_leaves_a_loop(config, tmp_path):
    dones = []
    lab.run(config, tmp_path / "run", observe=lambda event: dones.append(event.progress))
    ends = {(loop.unit, loop.total): loop.done for loop in dones if loop is not None}
    assert all(done == total for (_, total), done in ends.items())
