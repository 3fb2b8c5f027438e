import math

import numpy as np
import pytest
from scipy import stats

from tailkeep.metrics import Failure, bootstrap_interval, failure_interval, mcnemar, median_time


def test_only_items_on_which_the_models_differ_decide():
    first = [1] * 50 + [1] * 9 + [0] * 1
    second = [1] * 50 + [0] * 9 + [1] * 1
    interval = mcnemar(first, second)
    assert (interval.only_first, interval.only_second) == (9, 1)
    # 2 (C(10, 0) + C(10, 1)) / 2^10, by hand.
    assert interval.p_value == pytest.approx(2 * 11 / 1024)


def test_models_that_answer_alike_do_not_differ():
    assert mcnemar([1, 0, 1], [1, 0, 1]).p_value == 1.0


def test_swapping_the_models_keeps_the_p_value():
    a, b = np.random.default_rng(0).integers(0, 2, (2, 40))
    assert mcnemar(a, b).p_value == mcnemar(b, a).p_value


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [([1], [1, 0], "1 and 2 items"), ([0.5], [1], r"answers must be 1 \(correct\) or 0")],
)
def test_answers_that_cannot_be_paired_are_an_error(first, second, reason):
    with pytest.raises(ValueError, match=reason):
        mcnemar(first, second)


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_approximation():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    interval = bootstrap_interval(values, resamples=4000)
    half = stats.norm.ppf(0.975) * values.std() / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half), abs=0.02)


def test_the_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for number in range(100):
        interval = bootstrap_interval(rng.normal(0, 1, 60), resamples=200, seed=number)
        hits += interval.low <= 0 <= interval.high
    # 100 trials at .95 have a standard deviation of 2.2; percentiles of 60 items cover a little less.
    assert 85 <= hits < 100


def test_another_statistic_can_be_given():
    interval = bootstrap_interval([1.0, 2.0, 9.0], lambda resample: float(np.median(resample)))
    assert interval.mean == 2.0
    assert (interval.low, interval.high) == (1.0, 9.0)


def test_a_missing_answer_shows_and_no_item_is_an_error():
    assert math.isnan(bootstrap_interval([1.0, math.nan]).mean)
    with pytest.raises(ValueError, match="values has no items"):
        bootstrap_interval([])


def test_a_time_to_failure_has_bounds_around_it():
    rng = np.random.default_rng(3)
    shares = np.array([0.95, 0.85, 0.7, 0.6])
    answers = (rng.random((800, 1)) < shares).astype(float)
    interval = failure_interval([0, 1, 2, 3], answers, limit=0.75, resamples=500)
    assert interval.failure.state == "failed"
    assert interval.low < interval.failure.time < interval.high
    assert interval.high - interval.low < 1.0
    assert interval.censored == 0.0


def test_items_that_never_fail_have_no_upper_bound():
    answers = np.ones((30, 3))
    interval = failure_interval([0, 1, 2], answers, limit=0.75, resamples=50)
    assert interval.failure.state == "censored"
    assert math.isinf(interval.high)
    assert interval.censored == 1.0


def test_answers_in_another_shape_than_the_generations_are_an_error():
    with pytest.raises(ValueError, match="2 generations"):
        failure_interval([0, 1], np.ones((4, 3)), limit=0.75)


def failed(*times):
    return [Failure(time, "failed") for time in times]


NEVER, UNKNOWN = Failure(5.0, "censored"), Failure(math.nan, "undefined")


def test_the_median_time_of_three_seeds_is_bounded_by_their_extremes():
    assert median_time(failed(1.0, 2.0, 4.0)) == (2.0, 1.0, 4.0)


def test_a_seed_that_never_failed_is_infinitely_late():
    assert median_time([*failed(1.0, 2.0), NEVER]) == (2.0, 1.0, math.inf)
    assert median_time([*failed(1.0), NEVER, NEVER]).mean == math.inf


def test_seeds_that_failed_at_the_start_are_left_out():
    assert median_time([*failed(1.0, 2.0, 4.0), UNKNOWN]) == median_time(failed(1.0, 2.0, 4.0))
    assert math.isnan(median_time([UNKNOWN]).mean)


def test_one_seed_has_a_time_and_no_bounds():
    interval = median_time(failed(1.5))
    assert interval.mean == 1.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_many_seeds_have_bounds_within_their_range():
    times = np.random.default_rng(0).uniform(1, 5, 101).tolist()
    interval = median_time(failed(*times))
    assert interval.mean == pytest.approx(np.median(times))
    assert min(times) < interval.low < interval.mean < interval.high < max(times)
