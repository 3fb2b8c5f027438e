import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tailkeep.metrics import gaussian_kl, kl_divergence, unigram_counts

histograms = st.integers(1, 20).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(1, 1000), min_size=n, max_size=n) for _ in range(2)])
)


def test_counts_are_those_of_each_token():
    assert unigram_counts([[2, 0], [2, 2]], 4).tolist() == [1, 0, 3, 0]


def test_no_tokens_count_nothing():
    assert unigram_counts([], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("token", [-1, 4])
def test_a_token_outside_the_vocabulary_is_an_error(token):
    with pytest.raises(ValueError, match=f"token id {token} is outside the vocabulary of 4"):
        unigram_counts([0, token], 4)


def test_tokens_that_are_no_integers_are_an_error():
    with pytest.raises(ValueError, match="float64"):
        unigram_counts([0.0, 1.0], 4)


def test_divergence_of_two_coins_is_the_closed_form():
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kl_divergence([3, 1], [10, 10]) == pytest.approx(expected)


@settings(deadline=None)
@given(histograms)
def test_divergence_is_never_negative_and_ignores_scale(pair):
    p, q = pair
    divergence = kl_divergence(p, q)
    assert divergence >= -1e-12
    assert kl_divergence(7 * np.array(p), q) == pytest.approx(divergence, abs=1e-12)
    assert kl_divergence(p, p) == 0.0
    # scipy's entropy of two arguments is the same sum, computed by others.
    assert divergence == pytest.approx(stats.entropy(p, q), abs=1e-12)


def test_an_empty_cell_counts_as_the_floor_on_either_side():
    # ForTIFAI's definition: no second normalisation, so two floors add 1 ln(1 / 1e-10) and 1e-10 ln(1e-10 / 1).
    expected = math.log(1e10) - 1e-10 * math.log(1e10)
    assert kl_divergence([5, 0], [0, 3]) == pytest.approx(expected, rel=1e-12)
    assert kl_divergence([5, 0, 0], [5, 0, 0]) == 0.0


def test_without_a_floor_a_missing_cell_costs_infinity():
    assert kl_divergence([1, 1], [1, 0], floor=0) == math.inf
    assert kl_divergence([1, 0], [1, 1], floor=0) == pytest.approx(math.log(2))


def test_smoothing_adds_to_every_count_before_normalising():
    smoothed = kl_divergence([4, 0], [1, 3], smoothing=1)
    assert smoothed == pytest.approx(kl_divergence([5, 1], [2, 4]))


def test_a_histogram_without_counts_has_no_divergence():
    assert math.isnan(kl_divergence([0, 0], [1, 1]))
    assert math.isnan(kl_divergence([1, 1], [0, 0]))


@pytest.mark.parametrize(("p", "q"), [([1, 2], [1, 2, 3]), ([[1]], [[1]]), ([1, -1], [1, 1]), ([1, math.nan], [1, 1])])
def test_what_is_no_pair_of_histograms_is_an_error(p, q):
    with pytest.raises(ValueError, match=r"histograms of shapes|negative or not finite"):
        kl_divergence(p, q)


@pytest.mark.parametrize(("mean_p", "std_p", "mean_q", "std_q"), [(0, 1, 0, 1), (1, 0.5, -1, 2), (0, 2, 0.3, 0.7)])
def test_gaussian_divergence_is_its_integral(mean_p, std_p, mean_q, std_q):
    p, q = stats.norm(mean_p, std_p), stats.norm(mean_q, std_q)
    integral, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), *p.interval(1 - 1e-14))
    assert gaussian_kl(mean_p, std_p, mean_q, std_q) == pytest.approx(integral, abs=1e-8)


def test_gaussian_divergence_broadcasts():
    assert gaussian_kl([0, 1, 2], 1, 0, 1).tolist() == pytest.approx([0, 0.5, 2])


def test_a_collapsed_gaussian_is_infinitely_far_from_a_living_one():
    assert gaussian_kl(0, [0, 1], 0, [1, 0]).tolist() == [math.inf, math.inf]
    assert gaussian_kl([0, 1], 0, 0, 0).tolist() == [0, math.inf]


def test_a_nearly_collapsed_gaussian_is_still_measured():
    assert gaussian_kl(0, 1e-200, 0, 1) == pytest.approx(200 * math.log(10) - 0.5)


def test_a_negative_deviation_is_an_error():
    with pytest.raises(ValueError, match="negative"):
        gaussian_kl(0, -1, 0, 1)
