import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.metrics import Failure, margin_limit, time_to_failure


def test_a_crossing_is_interpolated_between_the_generations_around_it():
    assert time_to_failure([0, 1, 2], [0.95, 0.80, 0.70], limit=0.75) == Failure(pytest.approx(1.5), "failed")


def test_generations_need_not_be_consecutive():
    assert time_to_failure([0, 4, 10], [1.0, 0.8, 0.6], limit=0.75) == Failure(pytest.approx(5.5), "failed")


@settings(deadline=None)
@given(start=st.floats(0.5, 10), fall=st.floats(0.01, 2), share=st.floats(0.01, 0.99), steps=st.integers(1, 30))
def test_a_straight_line_fails_where_it_meets_the_limit(start, fall, share, steps):
    generations = list(range(steps + 1))
    values = [start - fall * generation for generation in generations]
    limit = start - share * fall * steps
    failure = time_to_failure(generations, values, limit=limit)
    assert failure.state == "failed"
    assert failure.time == pytest.approx((start - limit) / fall, rel=1e-9)


def test_only_the_first_crossing_counts():
    assert time_to_failure([0, 1, 2, 3], [1, 0, 1, 0], limit=0.5).time == pytest.approx(0.5)


def test_a_value_that_never_crosses_is_censored_at_the_last_generation():
    assert time_to_failure([0, 1, 5], [0.9, 0.8, 0.76], limit=0.75) == Failure(5.0, "censored")


def test_a_value_on_the_limit_has_not_failed():
    assert time_to_failure([0, 1], [0.9, 0.75], limit=0.75) == Failure(1.0, "censored")
    assert time_to_failure([0, 1, 2], [0.75, 0.75, 0.5], limit=0.75) == Failure(1.0, "failed")


def test_a_value_already_past_the_limit_has_no_time_to_failure():
    failure = time_to_failure([0, 1], [0.7, 0.9], limit=0.75)
    assert failure.state == "undefined"
    assert math.isnan(failure.time)


def test_a_rising_number_fails_above_its_limit():
    assert time_to_failure([0, 1, 2], [1.0, 1.2, 1.6], limit=1.4, falling=False) == Failure(
        pytest.approx(1.5), "failed"
    )
    assert time_to_failure([0, 1], [1.0, 1.2], limit=1.4, falling=False).state == "censored"
    assert time_to_failure([0, 1], [1.5, 1.2], limit=1.4, falling=False).state == "undefined"


def test_a_value_of_nan_counts_as_not_recorded():
    assert time_to_failure([0, 1, 2], [1.0, math.nan, 0.0], limit=0.5).time == pytest.approx(1.0)
    assert time_to_failure([0, 1, 2], [1.0, 0.9, math.nan], limit=0.5) == Failure(1.0, "censored")
    assert time_to_failure([0, 1], [math.nan, math.nan], limit=0.5).state == "undefined"
    assert time_to_failure([], [], limit=0.5).state == "undefined"


def test_infinite_values_cross_at_the_generation_that_is_finite():
    assert time_to_failure([0, 1], [math.inf, 0.0], limit=0.5).time == 1.0
    assert time_to_failure([0, 1], [1.0, -math.inf], limit=0.5).time == 0.0


def test_generations_out_of_order_are_an_error():
    with pytest.raises(ValueError, match="increase"):
        time_to_failure([0, 2, 1], [1, 1, 1], limit=0.5)
    with pytest.raises(ValueError, match="increase"):
        time_to_failure([0, 0], [1, 1], limit=0.5)


def test_generations_without_values_are_an_error():
    with pytest.raises(ValueError, match="2 generations and 1 values"):
        time_to_failure([0, 1], [1], limit=0.5)


def test_half_of_the_margin_over_chance_lies_between_start_and_chance():
    assert margin_limit(0.9, 0.5) == pytest.approx(0.7)
    assert margin_limit(0.55, 0.25) == pytest.approx(0.4)


def test_a_start_that_is_not_above_chance_has_no_margin_to_lose():
    assert math.isnan(margin_limit(0.5, 0.5))
    assert math.isnan(margin_limit(0.4, 0.5))
    assert math.isnan(margin_limit(math.nan, 0.5))


def test_a_limit_that_is_no_number_has_no_failure():
    """As `margin_limit` gives where there is no margin."""
    assert time_to_failure([0, 1], [0.9, 0.2], limit=math.nan).state == "undefined"
