import math

import numpy as np
import pytest
from scipy import stats

from tailkeep.metrics import Failure, clustered_interval, mcnemar, median_time


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


@pytest.mark.parametrize("size", [1, 4])
def test_clusters_are_resampled_whole(size):
    """Copies of an item say nothing new, so the interval is that of the items."""
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    clusters = np.repeat(np.arange(400), size)
    interval = clustered_interval(np.repeat(values, size), clusters, resamples=4000)
    half = stats.norm.ppf(0.975) * values.std() / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((interval.mean - half, interval.mean + half), abs=0.02)


def test_an_interval_over_clusters_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(40), 5)
    hits = 0
    for number in range(200):
        values = rng.normal(0, 1, 40)[clusters] + rng.normal(0, 1, clusters.size)
        interval = clustered_interval(values, clusters, resamples=200, seed=number)
        hits += interval.low <= 0 <= interval.high
    # 200 trials at .95 have a standard deviation of 1.5 percent; percentiles of 40 clusters cover a little less.
    assert 176 <= hits < 200


def test_few_clusters_have_no_bounds_and_a_missing_value_shows():
    assert clustered_interval(np.ones(19), range(19))[1:] == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert clustered_interval(np.ones(20), range(20)) == (1.0, 1.0, 1.0)
    assert math.isnan(clustered_interval([1.0, math.nan], [0, 1]).mean)
    for values, clusters in (([], []), ([1.0], [0, 1])):
        with pytest.raises(ValueError, match="Pass one cluster per value, at least one"):
            clustered_interval(values, clusters)


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
