"""Oracles are closed forms: means, Student's t with two degrees of freedom, straight lines."""

import csv
import io
import math

import pytest
from rich.console import Console

from tailkeep.errors import InputError
from tailkeep.report import model_card, print_summary, summarise, write
from tests.report.built_runs import finish, new_run

T_TWO = 4.302652729911275
"""The 97.5 % quantile of Student's t with two degrees of freedom."""


def group_of(path, values, *, metric="score", learner="custom", arms=("a",)):
    """A run in which arm -> seed -> the values of `metric` at generations 0, 1, ..."""
    table = values if isinstance(values, dict) else {arms[0]: values}
    seeds = tuple(range(max(len(rows) for rows in table.values())))
    longest = max(len(row) for rows in table.values() for row in rows)
    with new_run(path, arms=table, seeds=seeds, generations=longest) as run:
        for arm, rows in table.items():
            for seed, row in enumerate(rows):
                for generation, value in enumerate(row):
                    metrics = value if isinstance(value, dict) else {metric: value}
                    finish(run.generation_dir(arm, seed, generation), metrics, learner=learner)
    return summarise(path).groups[0]


def test_a_final_value_is_the_mean_of_the_last_generation_with_its_t_interval(tmp_path):
    metric = group_of(tmp_path / "r", [[9, 1.0], [9, 2.0], [9, 3.0]]).arms[0].metrics["score"]
    half = T_TWO * 1.0 / math.sqrt(3)
    assert metric.final == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert (metric.initial.mean, metric.generation, metric.seeds) == (9.0, 1, 3)


def test_a_slope_is_per_generation_also_where_generations_are_sparse(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0, 1, 2), generations=41) as run:
        for seed, steepness in enumerate((0.1, 0.2, 0.3)):
            for generation in (0, 5, 40):
                finish(
                    run.generation_dir("a", seed, generation), {"score": 7 + steepness * generation}, learner="custom"
                )
    slope = summarise(tmp_path / "r").groups[0].arms[0].metrics["score"].slope
    half = T_TWO * 0.1 / math.sqrt(3)
    assert slope == pytest.approx((0.2, 0.2 - half, 0.2 + half))


def test_a_seed_that_is_behind_holds_the_final_value_back(tmp_path):
    arm = group_of(tmp_path / "r", [[1.0, 2.0, 30.0], [1.0, 4.0]]).arms[0]
    assert arm.generation == 1
    assert arm.metrics["score"].final.mean == 3.0


def test_arms_are_compared_at_the_last_generation_that_all_have_finished(tmp_path):
    group = group_of(tmp_path / "r", {"quick": [[1.0, 2.0, 30.0]], "slow": [[5.0, 6.0]]})
    assert group.common_generation == 1
    assert {arm: row["score"].final.mean for arm, row in group.common.items()} == {"quick": 2.0, "slow": 6.0}


def holed(path, *recorded):
    """A run of one arm in which each seed has recorded these generations; a value is 10 * generation + seed."""
    with new_run(path, arms=["a"], seeds=tuple(range(len(recorded))), generations=3) as run:
        for seed, generations in enumerate(recorded):
            for generation in generations:
                metrics = {"score": 10.0 * generation + seed}
                finish(run.generation_dir("a", seed, generation), metrics, learner="custom")
    return summarise(path).groups[0]


def test_an_initial_value_is_of_generation_0_in_every_seed(tmp_path):
    metric = holed(tmp_path / "r", (1, 2), (0, 1, 2), (0, 1, 2)).arms[0].metrics["score"]
    assert math.isnan(metric.initial.mean)
    assert metric.final.mean == 21.0


def test_a_final_value_is_of_the_last_generation_that_every_seed_has(tmp_path):
    arm = holed(tmp_path / "r", (0, 2), (0, 1)).arms[0]
    assert (arm.generation, arm.metrics["score"].final.mean) == (0, 0.5)


def test_without_a_generation_that_every_seed_has_nothing_is_measured(tmp_path):
    group = holed(tmp_path / "r", (1, 2), (0,))
    metric = group.arms[0].metrics["score"]
    assert (metric.generation, metric.measured, metric.unusable) == (None, False, 2)
    assert math.isnan(metric.final.mean)
    assert "not measured in this arm" in write(tmp_path / "r").read_text(encoding="utf-8")
    (row,) = csv.DictReader((tmp_path / "r/tables/summary.csv").read_text(encoding="utf-8").splitlines())
    assert (row["generation"], row["final"]) == ("", "")
    print_summary(tmp_path / "r", Console(file=io.StringIO()))
    assert "generation –" in model_card(tmp_path / "r")


def test_a_value_that_is_not_finite_is_counted_at_the_generation_that_is_shown(tmp_path):
    rows = {"a": [[1.0, math.nan, 3.0], [1.0, 2.0, 3.0]], "b": [[1.0, 2.0], [1.0, 2.0]]}
    group_of(tmp_path / "r", rows)
    page = write(tmp_path / "r").read_text(encoding="utf-8")
    assert "no finite value in 1 of 2 seeds" in page


def test_one_seed_has_a_final_value_but_no_interval(tmp_path):
    final = group_of(tmp_path / "r", [[1.0, 2.5]]).arms[0].metrics["score"].final
    assert final.mean == 2.5
    assert math.isnan(final.low)
    assert math.isnan(final.high)


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_seed_without_a_finite_value_is_counted_and_not_averaged_away(tmp_path, lost):
    metric = group_of(tmp_path / "r", [[1.0, 2.0], [1.0, lost]]).arms[0].metrics["score"]
    assert metric.unusable == 1
    assert math.isnan(metric.final.mean)


@pytest.mark.parametrize("lost", [None, "0.5", True])
def test_a_value_that_is_no_number_is_refused_by_name(tmp_path, lost):
    with pytest.raises(InputError, match=r"metrics\.json: 'metrics' is .* none of arm a, seed 1, generation 1"):
        group_of(tmp_path / "r", [[1.0, 2.0], [1.0, lost]])


def test_an_arm_that_never_measures_a_metric_differs_from_one_that_lost_its_value(tmp_path):
    path = tmp_path / "r"
    with new_run(path, arms=("bounded", "free", "lost"), seeds=(0,), generations=2) as run:
        for generation in range(2):
            for arm, metrics in {
                "bounded": {"bound_ratio": 0.5},
                "free": {},
                "lost": {"bound_ratio": math.nan},
            }.items():
                finish(run.generation_dir(arm, 0, generation), {"test_error": 1.0, **metrics}, learner="regression")
    group = summarise(path).groups[0]
    assert {arm.arm: arm.metrics["bound_ratio"].measured for arm in group.arms} == {
        "bounded": True,
        "free": False,
        "lost": True,
    }
    page = write(path).read_text(encoding="utf-8")
    assert page.count("not measured in this arm") == 1
    assert "Left out: 2 of 3 arms" in page


def test_time_to_failure_is_interpolated_in_each_seed_and_the_median_is_reported(tmp_path):
    rows = [[0.85, 0.65], [0.95, 0.85, 0.65], [0.8, 0.8, 0.8, 0.6]]
    failure = group_of(tmp_path / "r", rows, metric="kr_accuracy", learner="causal_lm").arms[0].failures["kr_accuracy"]
    assert failure.time == pytest.approx(1.5)
    assert (failure.failed, failure.censored_seeds, failure.censored) == (3, 0, False)


def test_a_median_seed_that_never_failed_makes_the_time_a_lower_bound(tmp_path):
    rows = [[0.85, 0.65], [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]]
    failure = group_of(tmp_path / "r", rows, metric="kr_accuracy", learner="causal_lm").arms[0].failures["kr_accuracy"]
    assert (failure.time, failure.censored, failure.failed, failure.censored_seeds) == (2.0, True, 1, 2)


def test_a_seed_watched_for_less_time_makes_the_median_a_lower_bound(tmp_path):
    rows = [[0.85, 0.85, 0.65], [0.85, 0.85, 0.85, 0.65], [0.9, 0.9]]
    failure = group_of(tmp_path / "r", rows, metric="kr_accuracy", learner="causal_lm").arms[0].failures["kr_accuracy"]
    assert failure.time == pytest.approx(1.5)
    assert failure.censored


def test_a_seed_that_starts_past_the_limit_has_no_time_to_failure(tmp_path):
    failure = group_of(tmp_path / "r", [[0.5, 0.4]], metric="kr_accuracy", learner="causal_lm").arms[0].failures
    assert math.isnan(failure["kr_accuracy"].time)
    assert failure["kr_accuracy"].undefined == 1


def test_a_seed_past_the_limit_or_without_a_value_at_generation_0_is_undefined(tmp_path):
    rows = [[0.5, 0.4], [math.nan, 0.4], [math.nan, math.nan], [0.85, 0.65]]
    failure = group_of(tmp_path / "r", rows, metric="kr_accuracy", learner="causal_lm").arms[0].failures["kr_accuracy"]
    assert (failure.failed, failure.undefined) == (1, 3)


def test_nll_fails_ten_per_cent_above_its_initial_value(tmp_path):
    rows = [[2.0, 2.1, 2.3], [4.0, 4.2, 4.6]]
    failures = group_of(tmp_path / "r", rows, metric="held_out_nll", learner="causal_lm").arms[0].failures
    assert failures["held_out_nll"].time == pytest.approx(1.5)


def test_the_nll_of_a_density_has_no_ten_per_cent(tmp_path):
    rows = [[{"held_out_nll": 1.0, "modes_alive": 4.0, "modes_total": 4.0}]]
    assert set(group_of(tmp_path / "r", rows, learner="mixture").arms[0].failures) == {"modes_alive"}


def test_modes_fail_below_three_quarters_of_all(tmp_path):
    rows = [[{"modes_alive": alive, "modes_total": 8.0} for alive in (8.0, 7.0, 5.0)]]
    failure = group_of(tmp_path / "r", rows, learner="mixture").arms[0].failures["modes_alive"]
    assert failure.time == pytest.approx(1.5)


def test_a_group_of_unknown_metrics_is_summarised_by_all_of_them(tmp_path):
    group = group_of(tmp_path / "r", [[{"zeta": 1.0, "alpha": 2.0}]])
    assert group.metrics == ("alpha", "zeta")


def test_a_relative_limit_is_half_of_the_margin_over_chance(tmp_path):
    rows = [[0.9, 0.8, 0.6], [0.9, 0.6, 0.5], [0.9, 0.9, 0.9]]
    failures = group_of(tmp_path / "r", rows, metric="kr_accuracy", learner="causal_lm").arms[0].failures
    relative = failures["kr_accuracy_margin"]
    # The limit is 0.7: passed at 1.5 and at 2 / 3, and never.
    assert relative.time == pytest.approx(1.5)
    assert (relative.failed, relative.censored_seeds) == (2, 1)
    assert relative.bounds == pytest.approx((1.5, 2 / 3, math.inf))


def test_a_seed_that_starts_at_chance_has_no_relative_time(tmp_path):
    failures = group_of(tmp_path / "r", [[0.5, 0.4]], metric="kr_accuracy", learner="causal_lm").arms[0].failures
    relative = failures["kr_accuracy_margin"]
    assert relative.undefined == 1
    assert math.isnan(relative.time)


def test_differences_are_paired_by_seed(tmp_path):
    # The seeds differ widely and the arms by 1, 2 and 3: unpaired, the 95 % CI would include 0.
    group = group_of(
        tmp_path / "r", {"a": [[0.0, 10.0], [0.0, 20.0], [0.0, 30.0]], "b": [[0.0, 11.0], [0.0, 22.0], [0.0, 33.0]]}
    )
    (one,) = group.differences
    half = T_TWO / math.sqrt(3)
    assert (one.arm, one.metric, one.seeds, one.generation) == ("b", "score", 3, 1)
    assert one.final == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert one.slope == pytest.approx((2.0, 2.0 - half, 2.0 + half))


def test_a_difference_is_of_the_seeds_and_generations_that_both_arms_have(tmp_path):
    group = group_of(tmp_path / "r", {"a": [[1.0, 2.0, 9.0], [1.0, 4.0, 9.0]], "b": [[1.0, 5.0]]})
    (one,) = group.differences
    assert (one.seeds, one.generation, one.final.mean) == (1, 1, 3.0)
    assert math.isnan(one.final.low)


def test_a_single_arm_differs_from_nothing(tmp_path):
    assert group_of(tmp_path / "r", [[1.0, 2.0]]).differences == ()


def test_a_margin_that_chance_explains_has_no_relative_time(tmp_path):
    def margin_failure(items):
        rows = [[{"kr_accuracy": 0.56, "kr_items": items}, {"kr_accuracy": 0.4, "kr_items": items}]]
        return group_of(tmp_path / str(items), rows, learner="causal_lm").arms[0].failures["kr_accuracy_margin"]

    assert margin_failure(50.0).undefined == 1
    assert margin_failure(5000.0).failed == 1
