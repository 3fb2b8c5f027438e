import math

import pytest

from tailkeep.report.lab.comparisons import plot_leaderboard, rank_arms
from tailkeep.report.lab.run import read_lab_run
from tests.report.built_runs import finish, new_run

ARMS = ("baseline", "worse", "better", "same", "unclear")


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Three seeds; `better` and `worse` differ from the baseline by .1 in each, `unclear` by another amount in each."""
    path = tmp_path_factory.mktemp("ranked") / "run"
    with new_run(path, arms=ARMS, generations=2) as run:
        for arm in ARMS:
            for seed in (0, 1, 2):
                change = {"better": 0.1, "worse": -0.1, "unclear": 0.2 * (seed - 0.9)}.get(arm, 0.0)
                for generation in (0, 1):
                    metrics = {"kr_accuracy": 0.7 + 0.05 * seed + generation * change, "train_units": 1.0}
                    finish(run.generation_dir(arm, seed, generation), metrics, learner="causal_lm")
    return read_lab_run(path).groups[0]


def test_arms_are_ranked_by_their_paired_difference_from_the_first(group):
    rows = rank_arms(group, "kr_accuracy", higher=True)
    assert [arm for arm, _ in rows] == ["better", "unclear", "same", "worse"]
    assert rows[0][1].mean == pytest.approx(0.1)
    assert rows[0][1].low > 0
    assert rows[1][1].low < 0 < rows[1][1].high
    assert rank_arms(group, "kr_accuracy", higher=False)[0][0] == "worse"


def test_the_leaderboard_says_what_it_draws(group):
    drawing = plot_leaderboard(group, "kr_accuracy", "x")
    assert drawing.title == "KR-test accuracy: minus baseline"
    assert "better: +0.1" in drawing.alt
    assert drawing.build() is not None


def test_there_is_none_without_a_direction_or_for_few_arms(group, language):
    assert plot_leaderboard(group, "train_units", "x") is None
    few = read_lab_run(language).groups[0]
    assert len(few.arms) == 4
    assert plot_leaderboard(few, "kr_accuracy", "x") is None


def test_one_seed_ranks_without_an_interval(group):
    from dataclasses import replace

    one = replace(group, entries=tuple(entry for entry in group.entries if entry.seed == 0))
    assert all(math.isnan(interval.low) for _, interval in rank_arms(one, "kr_accuracy", higher=True))
    assert plot_leaderboard(one, "kr_accuracy", "x") is None
