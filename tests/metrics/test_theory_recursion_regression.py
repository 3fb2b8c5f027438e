"""The closed forms of least squares on its own labels, against each other and against plain linear algebra."""

import numpy as np
import pytest

from tailkeep.metrics import (
    accumulated_error,
    error_unit,
    published_decay_bound,
    published_edit_bound,
    published_edit_error,
    replaced_error,
    wide_edit_error,
)


def designs(rows, width, count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, rows, width))


def test_the_unit_is_the_expected_error_of_one_fit():
    x = designs(20, 4, 4000)
    errors = np.trace(np.linalg.inv(x.transpose(0, 2, 1) @ x), axis1=1, axis2=2)
    assert abs(errors.mean() - error_unit(20, 4)) < 5 * errors.std() / np.sqrt(4000)
    assert error_unit(20, 4, 3.0) == pytest.approx(9 * error_unit(20, 4))


@pytest.mark.parametrize(("rows", "width"), [(5, 4), (4, 4), (1, 1)])
def test_too_few_rows_have_no_unit(rows, width):
    with pytest.raises(ValueError, match=rf"{rows} rows for {width} coefficients.*Pass at least {width + 2} rows"):
        error_unit(rows, width)


def test_replacing_adds_one_unit_a_generation_and_accumulating_stays_below_its_limit():
    assert [replaced_error(generation) for generation in range(3)] == [1, 2, 3]
    assert accumulated_error(0) == 1
    assert accumulated_error(1) == pytest.approx(1.25)
    assert accumulated_error(100_000) == pytest.approx(np.pi**2 / 6, abs=2e-5)


def test_the_published_error_adds_the_shares():
    assert published_edit_error([]) == 1
    assert published_edit_error([0.05] * 19) == pytest.approx(1.95)
    assert published_edit_bound() == 2


def test_the_decay_bound_holds_the_second_moment_of_the_inverse_wishart():
    x = designs(24, 4, 20_000)
    traces = (np.linalg.inv(x.transpose(0, 2, 1) @ x) ** 2).sum(axis=(1, 2))
    bound = published_decay_bound(24, 4, share=0.25, factor=0.25)
    # eta = .5 and T share = 6, so the bound is 1 + 2 sqrt(6 E tr) / unit.
    trace = ((bound - 1) * error_unit(24, 4) / 2) ** 2 / 6
    assert abs(traces.mean() - trace) < 5 * traces.std() / np.sqrt(20_000)


def test_editing_everything_each_time_is_replacing():
    for generation in range(5):
        assert wide_edit_error([1.0] * generation, "overlapping") == replaced_error(generation)
        assert wide_edit_error([1.0] * generation, "anchored") == replaced_error(generation)


@pytest.mark.parametrize("share", [0.01, 0.125, 0.27, 1.0])
def test_the_first_edit_is_the_same_wherever_it_is(share):
    first = [wide_edit_error([share], places) for places in ("disjoint", "overlapping", "anchored")]
    assert first == pytest.approx([1 + 2 * share - share**2] * 3)


def test_anchored_edits_settle():
    share = 0.27
    assert wide_edit_error([share] * 200, "anchored") == pytest.approx(1 + share * (2 - share) / (1 - share**2))


@pytest.mark.parametrize("total", [0.1, 0.25, 0.5, 1.0])
def test_many_small_disjoint_edits_come_to_twice_an_exponential(total):
    assert wide_edit_error([total / 5000] * 5000, "disjoint") == pytest.approx(2 * np.exp(total) - 1, rel=2e-3)


def test_the_published_bound_is_passed_at_two_fifths():
    steps = 5000
    below, above = int(0.404 * steps), int(0.407 * steps)
    assert wide_edit_error([1 / steps] * below, "disjoint") < published_edit_bound()
    assert wide_edit_error([1 / steps] * above, "disjoint") > published_edit_bound()


@pytest.mark.parametrize("shares", [[-0.1], [0.2, 1.1]])
def test_a_share_out_of_range_is_an_error(shares):
    with pytest.raises(ValueError, match=r"shares must be in \[0, 1\], got "):
        wide_edit_error(shares, "overlapping")
    with pytest.raises(ValueError, match=r"shares must be in \[0, 1\], got "):
        published_edit_error(shares)


def test_disjoint_shares_of_more_than_all_are_an_error():
    with pytest.raises(ValueError, match=r"disjoint shares must sum to at most 1, got 1\.2"):
        wide_edit_error([0.6, 0.6], "disjoint")


@pytest.mark.parametrize(("rows", "share", "factor"), [(7, 0.1, 0.5), (20, 0.0, 0.5), (20, 0.1, 1.0)])
def test_a_decay_bound_that_is_none_is_an_error(rows, share, factor):
    with pytest.raises(ValueError, match=r"Pass at least 8 rows|share must be in \(0, 1\] and factor in \(0, 1\), got"):
        published_decay_bound(rows, 4, share=share, factor=factor)
