"""The estimate of a language model's run: a few steps of every loop stand for all of them."""

import importlib
from itertools import pairwise

import pytest
import torch

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


def halve(nll):
    return torch.full_like(nll, 0.5)


def test_a_loss_of_the_users_own_is_timed_itself_and_the_first_model_is_counted_if_it_stays(tmp_path):
    tree = config_tree(
        write_stories(tmp_path),
        generations=3,
        evaluation={"samples": 6, "prompt_tokens": 2, "new_tokens": 8, "first_model": True},
        arms={"baseline": {}, "halved": {"loss": halve}},
    )
    whole = lab.estimate(lab.load(tree))
    assert whole.arms[0].later is not whole.arms[1].later
    assert all(arm.later.model_bytes > 0 for arm in whole.arms)
    kept = [(arm.first.other_bytes, 2 * arm.later.other_bytes, 2 * arm.later.model_bytes) for arm in whole.arms]
    assert whole.finished_bytes == sum(map(sum, kept))


@pytest.mark.slow
def test_a_run_never_leaves_a_loop(config, tmp_path):
    dones = []
    lab.run(config, tmp_path / "run", observe=lambda event: dones.append(event.progress))
    ends = {(loop.unit, loop.total): loop.done for loop in dones if loop is not None}
    assert all(done == total for (_, total), done in ends.items())


def test_the_pace_of_writing_is_that_of_the_largest_batches(config, monkeypatch):
    # The first windows of a text have shorter contexts, each in a batch of its own.
    monkeypatch.setattr(estimate_module, "_MIN_SECONDS", 0.0)
    form = {"name": "windows", "context": 12, "new_tokens": 4}
    tree = config.arms["baseline"].model_dump(mode="json") | {"generation": {"form": form, "batch": 8}}
    steps = []
    with watch_loops(lambda progress: steps.append(progress)):
        lab.estimate(lab.load({"learner": "causal_lm", "arms": {"a": tree}, "seeds": [0]}))
    firsts = [two.done - one.done for one, two in pairwise(steps) if two.unit == "texts" and one.done == 0]
    assert 1 not in firsts
    assert 8 in firsts


def test_what_a_regime_writes_and_trains_on_more_is_counted(config, tmp_path):
    def estimated(**arm):
        tree = lab.load(config_tree(write_stories(tmp_path), generations=4, arms={"a": arm}))
        return lab.estimate(tree).arms[0]

    grows = estimated(regime={"name": "regenerate", "fractions": 3})
    seconds, generations = grows.later.seconds, range(1, 4)
    parts = {g: grows.later.total(g, recorded=False) for g in generations}
    assert parts[2] == pytest.approx(2 * seconds["generate"] + 1.5 * seconds["train"], rel=0.1)
    assert parts[3] == pytest.approx(3 * seconds["generate"] + 1.5 * seconds["train"], rel=0.1)
    assert grows.chain_seconds > grows.first.total(recorded=True) + 3 * parts[1]
    assert estimated(regime={"name": "fresh_only", "fractions": 4}).later.growth is None
    pooled = estimated(regime={"name": "accumulate"}, training={"equal_tokens": False}).later
    assert pooled.total(3, recorded=False) == pytest.approx(pooled.seconds["generate"] + 2 * pooled.seconds["train"])
    replayed = {"name": "replay", "base": "accumulate", "real_budget": 0.5, "by": {"name": "random"}}
    half = estimated(regime=replayed, training={"equal_tokens": False}).later
    assert half.total(3, recorded=False) == pytest.approx(half.seconds["generate"] + 3.5 / 1.5 * half.seconds["train"])
    assert estimated(regime={**replayed, "base": "mix"}, training={"equal_tokens": False}).later.growth is None
