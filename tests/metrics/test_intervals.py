import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from tailkeep.metrics import binomial_interval, mean_interval, positive_interval, share_interval, slope

numbers = st.floats(-1e6, 1e6)


def test_a_mean_of_two_values_has_the_bounds_of_the_cauchy_quantile():
    # With one degree of freedom t is Cauchy: its 97.5 % quantile is tan(0.475 pi), and s / sqrt(2) is half the range.
    interval = mean_interval([1.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(math.tan(0.475 * math.pi))
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


def test_a_single_value_has_a_mean_and_no_bounds():
    interval = mean_interval([0.25])
    assert interval.mean == 0.25
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_seed_without_a_finite_value_makes_the_whole_interval_nan(bad):
    assert all(math.isnan(bound) for bound in mean_interval([1.0, bad, -math.inf]))


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_a_higher_level_gives_a_wider_interval():
    narrow, wide = mean_interval([1, 2, 4], level=0.5), mean_interval([1, 2, 4], level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_an_interval_over_no_values_is_an_error():
    with pytest.raises(ValueError, match="values is empty"):
        mean_interval([])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_that_is_no_share_is_an_error(level):
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0, 2.0], level=level)
    with pytest.raises(ValueError, match="level"):
        binomial_interval(1, 2, level=level)


@settings(deadline=None)
@given(trials=st.integers(1, 10_000), data=st.data(), level=st.floats(0.5, 0.999))
def test_wilson_bounds_are_where_the_score_statistic_equals_its_quantile(trials, data, level):
    successes = data.draw(st.integers(0, trials))
    interval = binomial_interval(successes, trials, level=level)
    z = stats.norm.ppf((1 + level) / 2)
    for bound in interval[1:]:
        # (p - bound)^2 = z^2 bound (1 - bound) / n is the equation that Wilson solved.
        assert (interval.mean - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / trials, rel=1e-6, abs=1e-12)
    assert interval.low <= interval.mean <= interval.high


def test_wilson_bounds_at_the_ends_are_closed_forms():
    z = stats.norm.ppf(0.975)
    none, all_ = binomial_interval(0, 10), binomial_interval(10, 10)
    assert (none.low, all_.high) == (0.0, 1.0)
    assert none.high == pytest.approx(z**2 / (10 + z**2))
    assert all_.low == pytest.approx(1 - z**2 / (10 + z**2))


def test_no_trials_have_no_interval():
    assert all(math.isnan(bound) for bound in binomial_interval(0, 0))


@pytest.mark.parametrize(("successes", "trials"), [(-1, 10), (11, 10), (1, 0)])
def test_impossible_numbers_of_successes_are_an_error(successes, trials):
    with pytest.raises(ValueError, match="successes"):
        binomial_interval(successes, trials)


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20, unique=True), numbers, st.floats(-100, 100))
def test_points_on_a_line_have_its_slope(x, intercept, steepness):
    y = [intercept + steepness * value for value in x]
    assert slope(x, y) == pytest.approx(steepness, rel=1e-6, abs=1e-6)


def test_slope_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50)
    assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [2]), ([3, 3], [1, 2]), ([0, 1], [1, math.nan])])
def test_a_slope_that_no_line_has_is_nan(x, y):
    assert math.isnan(slope(x, y))


def test_a_slope_over_unequal_lengths_is_an_error():
    with pytest.raises(ValueError, match="x has 2 values and y 1"):
        slope([0, 1], [1])


@pytest.mark.parametrize("values", [(0.99, 0.94, 0.9), (0.01, 0.0, 0.002), (1.0, 0.2, 0.9), (0.5, 0.5, 0.51)])
def test_the_interval_of_a_share_lies_within_its_range_and_around_its_mean(values):
    mean, low, high = share_interval(values)
    assert 0 < low < mean < high < 1
    assert mean == pytest.approx(np.mean(values))


def test_far_from_the_bounds_the_interval_of_a_share_is_students():
    values = 0.5 + 1e-4 * np.array([-1, 0, 1])
    np.testing.assert_allclose(share_interval(values), mean_interval(values), rtol=1e-6)


def test_the_interval_of_a_share_on_the_logit_scale_is_symmetric_and_as_wide_as_the_delta_method_says():
    values = np.array([0.8, 0.9, 0.97])
    mean, low, high = share_interval(values)
    centre = special.logit(mean)
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3) / (mean * (1 - mean))
    np.testing.assert_allclose([centre - special.logit(low), special.logit(high) - centre], half)


def test_equal_shares_have_no_width_and_one_has_no_bounds():
    assert share_interval([1.0, 1.0, 1.0]) == (1, 1, 1)
    assert np.isnan(share_interval([0.4])[1:]).all()
    with pytest.raises(ValueError, match=r"shares must be between 0 and 1, got 0\.2 to 1\.5"):
        share_interval([0.2, 1.5])


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=8))
def test_the_interval_of_positive_values_stays_above_zero(values):
    mean, low, high = positive_interval(values)
    assert 0 <= low <= mean <= high
    assert mean == pytest.approx(np.mean(values))


def test_the_interval_of_positive_values_is_symmetric_on_the_log_scale():
    values = np.array([1.0, 2.0, 6.0])
    mean, low, high = positive_interval(values)
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3) / mean
    np.testing.assert_allclose([np.log(mean / low), np.log(high / mean)], half)


def test_equal_positive_values_have_no_width_and_others_are_refused():
    assert positive_interval([2.0, 2.0]) == (2, 2, 2)
    assert np.isnan(positive_interval([0.4])[1:]).all()
    with pytest.raises(ValueError, match=r"values must be > 0, got 0\.0"):
        positive_interval([0.0, 1.5])
