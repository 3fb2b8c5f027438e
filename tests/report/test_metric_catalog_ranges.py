"""Oracles are Student's t on the transformed scale; no bound leaves the possible range."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.metrics import mean_interval, positive_interval, share_interval
from tailkeep.report.metric_catalog import METRICS, difference_interval, limits_of, seed_interval
from tailkeep.runs.metric import Metric

SHARE, COUNT = METRICS["kr_accuracy"], METRICS["people_named"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_interval_of_a_share_never_leaves_0_to_1(values):
    mean, low, high = seed_interval(SHARE, values)
    assert 0 <= low <= mean + 1e-12
    assert mean <= high + 1e-12
    assert high <= 1


@given(st.lists(st.integers(0, 24), min_size=2, max_size=6))
def test_the_interval_of_a_count_never_exceeds_the_total(values):
    mean, low, high = seed_interval(COUNT, [float(v) for v in values], 24.0)
    assert -1e-9 <= low <= mean + 1e-9
    assert high <= 24 + 1e-9


def test_each_range_has_its_interval():
    values = [0.2, 0.4, 0.9]
    assert seed_interval(METRICS["distinct_4"], values) == share_interval(values)
    assert seed_interval(METRICS["test_error"], values) == positive_interval(values)
    assert seed_interval(METRICS["held_out_nll"], values) == mean_interval(values)
    expected = [24 * bound for bound in share_interval([v / 24 for v in (3.0, 9.0, 12.0)])]
    assert seed_interval(COUNT, [3.0, 9.0, 12.0], 24.0) == pytest.approx(expected)


def test_a_value_outside_the_range_or_none_gives_plain_students_t():
    assert seed_interval(SHARE, [0.5, 1.5]) == mean_interval([0.5, 1.5])
    assert math.isnan(seed_interval(SHARE, [0.5, math.nan]).mean)
    assert seed_interval(METRICS["kl_real_sample"], [0.0, 0.1]).low == 0.0


def test_two_shares_differ_by_at_most_one():
    wide = difference_interval(SHARE, [-0.9, 0.9])
    assert (wide.low, wide.high) == (-1.0, 1.0)
    assert difference_interval(METRICS["held_out_nll"], [-0.9, 0.9]).low < -1


def test_every_range_has_its_limits():
    assert limits_of(SHARE) == (0, 1)
    assert limits_of(COUNT, 24) == (0, 24)
    assert limits_of(COUNT) == limits_of(METRICS["test_error"]) == (0, math.inf)
    assert limits_of(Metric("Anything")) == (-math.inf, math.inf)
