"""The closed forms of a normal distribution's width, against simulation and against each other."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tailkeep.metrics import (
    accumulated_variance,
    balanced_width,
    density_floor,
    expected_variance,
    expected_variance_error,
    median_variance,
    variance_growth,
)


@pytest.mark.parametrize(
    ("width", "eta"), [(0.01, 1.008), (0.05, 1.042), (0.1, 1.086), (0.2, 1.186), (0.5, 1.571), (1.0, 2.525)]
)
def test_eta_has_its_known_values(width, eta):
    assert variance_growth(width) == pytest.approx(eta, abs=6e-4)


@pytest.mark.parametrize("width", [0.0, 0.3, 2.0, 5.0])
def test_eta_is_the_variance_outside_the_truncated_part(width):
    variance = 2 * quad(lambda x: x * x * norm.pdf(x), width, np.inf)[0] / (2 * norm.sf(width))
    assert variance_growth(width) == pytest.approx(variance, rel=1e-7)


def test_eta_of_a_wide_truncation_is_finite():
    assert variance_growth(60.0) == pytest.approx(60.0**2 + 2, rel=1e-3)


@pytest.mark.parametrize("size", [20, 100, 1000])
def test_the_balanced_width_balances_and_drops_about_one_value(size):
    width = balanced_width(size)
    assert (size - 1) / size * variance_growth(width) == pytest.approx(1, abs=1e-12)
    assert width == pytest.approx(math.sqrt(math.pi / 2) / size, rel=0.05 / size * 2)
    assert size * (1 - 2 * norm.sf(width)) == pytest.approx(1, rel=0.01)


def test_the_floor_is_where_the_peak_meets_the_threshold():
    floor = density_floor(0.85)
    assert floor == pytest.approx(0.469, abs=5e-4)
    assert norm.pdf(0, 0, floor) == pytest.approx(0.85)


@pytest.mark.parametrize(("size", "generation"), [(20, 0), (20, 30), (100, 100)])
def test_mean_and_median_variance_are_those_of_products_of_chi_squares(size, generation):
    rng = np.random.default_rng(size)
    chains = 40_000
    logs = np.zeros(chains)
    for _ in range(generation + 1):
        logs += np.log(rng.chisquare(size - 1, chains) / size)
    # The sample median's standard error is 1.2533 standard deviations of one value over the root of the count.
    error = 1.2533 * logs.std() / np.sqrt(chains)
    assert abs(np.median(logs) - math.log(median_variance(size, generation))) < 5 * error
    variances = np.exp(logs)
    error = expected_variance_error(size, generation, chains=chains)
    assert abs(variances.mean() - expected_variance(size, generation)) < 5 * error
    if generation == 0:
        assert error == pytest.approx(variances.std() / np.sqrt(chains), rel=0.03)


def test_a_balanced_truncation_keeps_the_mean_and_not_the_median():
    growth = variance_growth(balanced_width(100))
    assert expected_variance(100, 500, growth=growth) == pytest.approx(1)
    assert median_variance(100, 100, growth=growth) ** 0.5 == pytest.approx(0.60, abs=0.01)


def test_accumulated_variance_has_its_limit():
    assert accumulated_variance(100, 0) == pytest.approx(0.99)
    x = math.pi / 10
    assert accumulated_variance(100, 100_000) == pytest.approx(math.sin(x) / x, abs=1e-6)


@pytest.mark.parametrize("width", [-0.1, math.inf, math.nan])
def test_a_width_that_is_none_is_an_error(width):
    with pytest.raises(ValueError, match="width must be a finite number >= 0"):
        variance_growth(width)


def test_numbers_out_of_range_are_an_error():
    with pytest.raises(ValueError, match="size must be >= 2, got 1"):
        balanced_width(1)
    with pytest.raises(ValueError, match="chains must be >= 1, got 0"):
        expected_variance_error(10, 3, chains=0)
    with pytest.raises(ValueError, match="generation must be >= 0, got -1"):
        median_variance(10, -1)
    with pytest.raises(ValueError, match="threshold must be a density > 0, got 0"):
        density_floor(0.0)
