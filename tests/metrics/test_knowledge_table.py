import math

import numpy as np
import pytest
from scipy import stats

from tailkeep.metrics import KRMargins, binomial_interval, kr_compare, kr_fractions, kr_margins, kr_parts, kr_rows


def margins_of(common):
    values = np.asarray(common, dtype=np.float64)
    return KRMargins(values, -values, np.ones(len(values)))


def test_three_ways_of_counting_in_closed_form():
    # The true sentence has 3 tokens of ln 1/2, the false one 2 of ln 1/4: half the nats a token, 3/4 of all.
    half, quarter = math.log(1 / 2), math.log(1 / 4)
    rows = kr_margins([([half] * 3, [quarter] * 2)])
    assert rows.common == pytest.approx([math.log(2)])
    assert rows.mean == pytest.approx([math.log(2)])
    assert rows.sum == pytest.approx([3 * half - 2 * quarter])


def test_the_ways_of_counting_may_disagree():
    # Beyond the common length the true sentence has an unlikely word: only the common mean does not see it.
    rows = kr_margins([([-1.0, -1.0, -30.0], [-2.0, -2.0])])
    assert rows.common > 0
    assert rows.mean < 0
    assert rows.sum < 0


def test_no_questions_have_no_margins():
    assert len(kr_margins([]).common) == 0


def test_the_total_holds_questions_that_are_in_no_part():
    total, first, second = kr_rows(margins_of([1, 1, -1, 0, 2, -2]), np.array([0, 0, 0, -1, 1, 1]))
    assert [(row.part, row.items) for row in (total, first, second)] == [
        ("total", 6), ("fraction 0", 3), ("fraction 1", 2),
    ]  # fmt: skip
    assert total.accuracy == binomial_interval(3.5, 6)
    assert first.accuracy.mean == 2 / 3
    assert (total.by_sum, total.by_mean) == (2.5 / 6, 1.0)


def test_bootstrap_bounds_of_many_questions_are_those_of_the_normal_law():
    (row,) = kr_rows(margins_of([1.0] * 600 + [-1.0] * 400))
    half = 1.96 * math.sqrt(0.6 * 0.4 / 1000)
    assert row.bootstrap.mean == 0.6
    assert (row.bootstrap.low, row.bootstrap.high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.004)
    assert (row.accuracy.low, row.accuracy.high) == pytest.approx((row.bootstrap.low, row.bootstrap.high), abs=0.004)


def test_rows_are_plain_for_json():
    (row,) = kr_rows(margins_of([1.0, -1.0]))
    assert row.to_dict()["accuracy"] == {"mean": 0.5, "low": row.accuracy.low, "high": row.accuracy.high}


def test_models_are_compared_on_what_both_decide_by_the_exact_binomial_test():
    one = [1.0] * 9 + [-1.0] * 3 + [1.0, 0.0, math.nan]
    other = [-1.0] * 9 + [1.0] * 3 + [1.0, 1.0, 1.0]
    (first, second, p_value), undecided = kr_compare(one, other)
    assert (first, second, undecided) == (9, 3, 2)
    # Two-sided: 2 P(X >= 9) of 12 fair throws.
    assert p_value == pytest.approx(2 * stats.binom.sf(8, 12, 0.5))


def test_a_source_must_lie_wholly_in_one_part():
    # Parts 0-9, 10-29, 30-39. Sources reach from 0 to 7, 8 to 14, 15 to 29, 30 to 38, 39 to 49.
    assert kr_parts([0, 8, 15, 30, 39], [0, 10, 30, 40], total=50).tolist() == [0, -1, 1, 2, -1]


def test_a_source_before_the_first_part_is_in_none():
    assert kr_parts([0, 5], [5, 10], total=10).tolist() == [-1, 0]


def test_equal_parts_are_the_fractions():
    locations = [0, 3, 17, 18, 40, 41, 77, 99]
    for fractions in (1, 2, 3, 6, 7):
        bounds = [math.ceil(part * 100 / fractions) for part in range(fractions + 1)]
        equal = kr_fractions(locations, fractions, total=100)
        assert equal.tolist() == kr_parts(locations, bounds, total=100).tolist()


def test_invalid_locations_are_an_error():
    with pytest.raises(ValueError, match="none negative"):
        kr_parts([], [0, 1], total=1)
    with pytest.raises(ValueError, match="total must be above the last location 4, got 4"):
        kr_parts([4], [0, 4], total=4)
