"""Oracles: parabolas, whose vertex is exact, and a two-way choice whose best temperature is known."""

import math

import numpy as np
import pytest

from tailkeep.metrics import TEMPERATURES, fit_temperature


@pytest.mark.parametrize("best", [0.3, 0.77, 1.0, 1.9, 3.2])
def test_the_vertex_of_a_parabola_is_found(best):
    nll = [1 + 0.3 * (math.log(t) - math.log(best)) ** 2 for t in TEMPERATURES]
    assert fit_temperature(nll) == pytest.approx(best)


@pytest.mark.parametrize("best", [0.5, 1.3, 2.6])
def test_an_overconfident_model_gets_the_temperature_of_its_overconfidence(best):
    # A two-way choice with odds exp(z) in truth, and exp(best * z) by the model.
    z = np.random.default_rng(0).normal(0, 2, 20_000)
    truth = 1 / (1 + np.exp(-z))

    def nll(temperature):
        claimed = best * z / temperature
        return float(np.mean(truth * np.logaddexp(0, -claimed) + (1 - truth) * np.logaddexp(0, claimed)))

    temperature = fit_temperature([nll(t) for t in TEMPERATURES])
    assert temperature == pytest.approx(best, rel=0.03)
    assert nll(temperature) <= nll(best) + 2e-4


def test_a_lowest_end_is_taken_as_it_is():
    assert fit_temperature([1.0, 2.0, 3.0], (0.5, 1.0, 2.0)) == 0.5
    assert fit_temperature([3.0, 2.0, 1.0], (0.5, 1.0, 2.0)) == 2.0


def test_values_that_are_all_alike_keep_a_temperature_of_the_grid():
    assert fit_temperature([1.0, 1.0, 1.0], (0.5, 1.0, 2.0)) == 0.5


def test_a_missing_value_shows():
    assert math.isnan(fit_temperature([1.0, math.nan, 2.0], (0.5, 1.0, 2.0)))


@pytest.mark.parametrize(
    ("nll", "temperatures"), [([1.0, 2.0], (1.0, 2.0)), ([1.0] * 3, (1.0, 1.0, 2.0)), ([1.0] * 3, (0.0, 1.0, 2.0))]
)
def test_a_grid_that_is_none_is_an_error(nll, temperatures):
    with pytest.raises(ValueError, match="temperatures"):
        fit_temperature(nll, temperatures)
