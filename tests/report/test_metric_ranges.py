"""Oracles are Student's t on the transformed scale; no bound leaves the possible range."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.metrics import mean_interval, positive_interval, share_interval
from tailkeep.report.metric_catalog import METRICS
from tailkeep.report.metric_ranges import TOTALS, difference_interval, limits_of, range_of, seed_interval, unit_of


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_the_interval_of_a_share_never_leaves_0_to_1(values):
    mean, low, high = seed_interval("kr_accuracy", values)
    assert 0 <= low <= mean + 1e-12
    assert mean <= high + 1e-12
    assert high <= 1


@given(st.lists(st.integers(0, 24), min_size=2, max_size=6))
def test_the_interval_of_a_count_never_exceeds_the_total(values):
    mean, low, high = seed_interval("common.people_named", [float(v) for v in values], 24.0)
    assert -1e-9 <= low <= mean + 1e-9
    assert high <= 24 + 1e-9


def test_each_range_has_its_interval():
    values = [0.2, 0.4, 0.9]
    assert seed_interval("common.distinct_4", values) == share_interval(values)
    assert seed_interval("test_error", values) == positive_interval(values)
    assert seed_interval("held_out_nll", values) == mean_interval(values)
    expected = [24 * bound for bound in share_interval([v / 24 for v in (3.0, 9.0, 12.0)])]
    assert seed_interval("people_named", [3.0, 9.0, 12.0], 24.0) == pytest.approx(expected)


def test_a_value_outside_the_range_or_none_gives_plain_students_t():
    assert seed_interval("kr_accuracy", [0.5, 1.5]) == mean_interval([0.5, 1.5])
    assert math.isnan(seed_interval("kr_accuracy", [0.5, math.nan]).mean)
    assert seed_interval("kl_real_sample", [0.0, 0.1]).low == 0.0


def test_two_shares_differ_by_at_most_one():
    wide = difference_interval("kr_accuracy", [-0.9, 0.9])
    assert (wide.low, wide.high) == (-1.0, 1.0)
    assert difference_interval("held_out_nll", [-0.9, 0.9]).low < -1


def test_every_count_has_a_known_total_and_every_range_its_limits():
    for name in METRICS:
        low, high = limits_of(name)
        assert low < high
        assert (range_of(name) == "count") == (name in TOTALS)
    assert set(TOTALS.values()) <= set(METRICS)


def test_a_unit_is_per_token_only_for_language_models():
    assert unit_of("held_out_nll") == "nats/token"
    assert unit_of("held_out_nll", "mixture") == "nats/point"
    assert unit_of("common.distinct_4") == ""
