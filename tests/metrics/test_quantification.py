"""The share of a component: closed forms, coverage of the interval, and the goodness of fit."""

import math

import numpy as np
import pytest

from tailkeep.metrics import false_discovery_correction, fit_mixture, mixture_share

MANY = 1_000_000
P, Q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])


def simulate(share, documents, references, seed, other=None):
    rng = np.random.default_rng(seed)
    mixed = (1 - share) * P + share * (Q if other is None else other)
    return [rng.multinomial(size, values) for size, values in ((documents, mixed), (references, P), (references, Q))]


def test_two_bins_give_the_share_in_closed_form():
    # c_1 / n = p + a (q - p) is solved by a; beyond 0 and 1 the likelihood is largest at the end.
    p, q = np.array([0.8, 0.2]), np.array([0.3, 0.7])
    shares = mixture_share([[65, 35], [95, 5], [10, 90]], p, q)
    assert shares == pytest.approx([(0.35 - 0.2) / 0.5, 0, 1], abs=1e-9)


def test_the_estimate_is_a_root_of_the_likelihoods_derivative():
    counts = np.array([30, 25, 45])
    share = float(mixture_share(counts, P, Q))
    assert counts @ ((Q - P) / (P + share * (Q - P))) == pytest.approx(0, abs=1e-6)


def test_with_known_components_the_interval_is_the_binomial_one():
    fit = fit_mixture([6500, 3500], [MANY * 8, MANY * 2], [MANY * 3, MANY * 7], resamples=2000)
    half = 1.645 * np.sqrt(0.35 * 0.65 / 10_000) / 0.5
    assert fit.share == pytest.approx(0.3, abs=1e-5)
    assert fit.low == pytest.approx(0.3 - half, abs=half / 4)
    assert fit.high == pytest.approx(0.3 + half, abs=half / 4)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_interval_covers_the_share_at_the_ends_too(share):
    fits = [fit_mixture(*simulate(share, 200, 100, seed), resamples=100, seed=seed) for seed in range(100)]
    # 90 % nominally: fewer than 82 of 100 has a probability of 0.4 %.
    assert sum(fit.low <= share <= fit.high for fit in fits) >= 82


def test_smaller_references_and_dependent_documents_widen_the_interval():
    counts = simulate(0.3, 500, 500, 1)
    few = [counts[0], counts[1] // 10, counts[2] // 10]

    def width(sides, **more):
        fit = fit_mixture(*sides, resamples=400, **more)
        return fit.high - fit.low

    assert width(few) > 1.5 * width(counts)
    # Four times fewer documents on all sides: twice the width.
    assert width(counts, design_effects=(4.0, 4.0)) == pytest.approx(2 * width(counts), rel=0.3)


def test_a_share_of_zero_is_rejected_as_often_as_its_p_value_says():
    # 20 nominally of 400; 31 or more have a probability of 1 %. With the background alone as the null it was 9 to 14 %.
    p_values = [fit_mixture(*simulate(0, 200, 100, seed), resamples=20, seed=seed).zero_p for seed in range(400)]
    assert 8 <= sum(p <= 0.05 for p in p_values) <= 30
    assert fit_mixture(*simulate(0.3, 500, 500, 0), resamples=100).zero_p < 0.001


def test_a_third_component_is_no_mixture_of_the_two():
    null = [fit_mixture(*simulate(0.3, 300, 300, seed), resamples=100, seed=seed).fit_p for seed in range(60)]
    assert sum(p <= 0.05 for p in null) <= 8
    assert fit_mixture(*simulate(0.3, 300, 300, 0, other=np.array([0.0, 1.0, 0.0])), resamples=100).fit_p < 0.02


@pytest.mark.parametrize("sides", [([0, 0], [1, 2], [2, 1]), ([1, 1], [0, 0], [2, 1]), ([1, 1], [1, 2], [0, 0])])
def test_a_side_without_a_document_is_refused(sides):
    with pytest.raises(ValueError, match="must each have a document"):
        fit_mixture(*sides)


def test_a_bin_that_is_empty_in_both_references_is_refused():
    with pytest.raises(ValueError, match=r"bin 2 is empty in both references\. Join it with its neighbour"):
        fit_mixture([50, 50, 0], [80, 20, 0], [20, 80, 0])


def test_the_false_discovery_rate_is_corrected_as_by_benjamini_and_hochberg():
    # p_(i) m / i from the largest on: 0.04, 0.04 * 4 / 3, 0.03 * 4 / 2, 0.01 * 4; the running minimum counts.
    assert false_discovery_correction([0.03, 0.01, 0.04, 0.04]) == pytest.approx([0.04, 0.04, 0.04, 0.04])
    assert false_discovery_correction([0.001, 0.5, 0.02]) == pytest.approx([0.003, 0.5, 0.03])
    assert false_discovery_correction([]) == []
    # NaN is no test.
    assert false_discovery_correction([math.nan, 0.01, 0.02])[1:] == pytest.approx([0.02, 0.02])
    assert math.isnan(false_discovery_correction([math.nan, 0.01])[0])


def test_the_smallest_p_value_of_a_zero_share_follows_the_resamples():
    sides = simulate(0.9, 500, 500, 0)
    fits = [fit_mixture(*sides, resamples=20, zero_resamples=number) for number in (99, 9999)]
    assert [fit.zero_p for fit in fits] == [1 / 100, 1 / 10_000]
