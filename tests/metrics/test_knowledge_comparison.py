"""Claims of `metrics/knowledge_comparison.py`: paired comparisons that resample articles."""

import math

import numpy as np
import pytest

from tailkeep.metrics import (
    compare_standardised_margins,
    discordance,
    intraclass_correlation,
    kr_standardised_margin,
    standardised_margin_failure,
    standardised_margin_interval,
    time_to_failure,
)
from tailkeep.metrics.knowledge_comparison import crossing_times

ARTICLES = np.repeat(np.arange(30), 8)


def margins(seed, *, mean=0.5, between=0.3, within=1.0):
    """Of 240 questions in 30 articles."""
    rng = np.random.default_rng(seed)
    return mean + between * rng.normal(size=30)[ARTICLES] + within * rng.normal(size=ARTICLES.size)


def test_a_standardised_margin_does_not_grow_with_confidence():
    one = margins(0)
    assert kr_standardised_margin(3 * one) == pytest.approx(kr_standardised_margin(one))
    assert kr_standardised_margin([1.0, 2.0, 3.0]) == 2.0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [1.0, math.nan], [1.0, -math.inf]])
def test_a_standardised_margin_that_is_not_defined_is_nan(values):
    assert math.isnan(kr_standardised_margin(values))


def test_an_interval_over_articles_is_wider_than_one_over_questions_where_articles_differ():
    one = margins(1, between=1.0)
    by_article = standardised_margin_interval(one, ARTICLES, resamples=1000)
    by_question = standardised_margin_interval(one, np.arange(one.size), resamples=1000)
    assert by_article.high - by_article.low > 1.5 * (by_question.high - by_question.low)
    assert by_article.mean == by_question.mean == kr_standardised_margin(one)


def test_intervals_over_articles_cover_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(200):
        low, high = standardised_margin_interval(margins(seed, between=0.6), ARTICLES, level=0.9, resamples=300)[1:]
        inside.append(low <= 0.5 / math.sqrt(1 + 0.6**2) <= high)
    # Binomial with 200 trials at 0.9: outside 0.83 to 0.96 once in a thousand.
    assert 0.83 <= np.mean(inside) <= 0.96


def test_resamples_from_sums_are_resamples_of_questions():
    one = margins(4)
    draws = np.random.default_rng(0).multinomial(30, [1 / 30] * 30, 200)
    by_question = [kr_standardised_margin(np.repeat(one, counts[ARTICLES])) for counts in draws]
    low, high = standardised_margin_interval(one, ARTICLES, level=0.9, resamples=200)[1:]
    assert [low, high] == pytest.approx(np.quantile(by_question, [0.05, 0.95]))


@pytest.mark.parametrize("count", [2, 5, 19])
def test_few_articles_have_no_interval_and_no_p_value(count):
    """Percentile intervals of two equal models miss 0 in 51 % of experiments with 2 articles, in 14 % with 5."""
    articles = np.repeat(np.arange(count), 8)
    one, other = (np.random.default_rng(seed).normal(0.5, 1, articles.size) for seed in (1, 2))
    compared = compare_standardised_margins(one, other, articles, bound=0.1)
    assert math.isfinite(compared.difference.mean)
    assert np.isnan([*compared.difference[1:], compared.p_value, compared.equivalence.p_value]).all()
    assert not compared.equivalence.decided
    failure = standardised_margin_failure([0, 1], [one, other], articles)
    assert np.isnan([failure.low, failure.high]).all()


def test_the_p_value_of_equivalence_is_never_0_and_needs_every_resample():
    one = margins(5)
    compared = compare_standardised_margins(one, one + 1e-9, ARTICLES, bound=0.5, resamples=1000)
    assert compared.equivalence.p_value == pytest.approx(1 / 1001)
    # Articles of equal margins: some resamples have no spread, so that neither test has a p-value.
    flat = np.where(ARTICLES < 29, 0.1, 0.7)
    nothing = compare_standardised_margins(flat, margins(6), ARTICLES, bound=5, resamples=2000)
    assert math.isnan(nothing.p_value) == math.isnan(nothing.equivalence.p_value)
    assert math.isnan(nothing.p_value)


def test_pairing_removes_what_makes_questions_hard():
    first = margins(2)
    second = first - 0.2 + 0.05 * np.random.default_rng(3).normal(size=first.size)
    paired = compare_standardised_margins(first, second, ARTICLES, bound=0, resamples=1000).difference
    alone = standardised_margin_interval(first, ARTICLES, resamples=1000)
    assert paired.low > 0.1
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_seeds_are_averaged():
    first, second = np.array([margins(4), margins(5)]), np.array([margins(6), margins(7)])
    expected = np.mean([kr_standardised_margin(row) for row in first]) - np.mean(
        [kr_standardised_margin(row) for row in second]
    )
    compared = compare_standardised_margins(first, second, ARTICLES, bound=0, resamples=10)
    assert compared.difference.mean == pytest.approx(expected)


def test_equal_models_are_equivalent_and_noisy_ones_undecided():
    one = margins(8)
    near = one + 0.02 * np.random.default_rng(9).normal(size=one.size)
    far = margins(10)
    decided = compare_standardised_margins(one, near, ARTICLES, bound=0.05, resamples=1000).equivalence
    assert decided.decided
    assert decided.p_value < 0.05
    undecided = compare_standardised_margins(one, far, ARTICLES, bound=0.05, resamples=1000).equivalence
    assert not undecided.decided
    assert undecided.p_value > 0.05


@pytest.mark.parametrize("bound", [0.0, -0.1, math.nan])
def test_without_a_positive_bound_nothing_is_equivalent(bound):
    assert compare_standardised_margins(margins(0), margins(1), ARTICLES, bound=bound).equivalence is None


def test_a_margin_that_halves_fails_between_its_generations():
    one = margins(11, between=0.0)
    centred = one - one.mean()
    table = np.array([centred + 0.8, centred + 0.6, centred + 0.2])
    failure, low, high, censored = standardised_margin_failure([0, 1, 2], table, ARTICLES, resamples=500)
    assert failure.state == "failed"
    assert failure.time == pytest.approx(1.5)
    assert low < 1.5 < high
    assert censored == 0.0


def test_a_margin_that_stays_is_censored():
    table = np.array([margins(12), margins(12)])
    failure, _, high, censored = standardised_margin_failure([0, 1], table, ARTICLES, resamples=100)
    assert (failure.state, failure.time) == ("censored", 1)
    assert math.isinf(high)
    assert censored == 1.0


def test_resamples_without_a_spread_have_no_time_to_failure():
    # One article differs, and a resample is without it in a third of all cases.
    one = np.where(ARTICLES < 29, 0.1, 0.7)
    result = standardised_margin_failure([0, 1], [one, margins(7)], ARTICLES, resamples=100)
    assert result.low == 0
    compared = compare_standardised_margins(one, margins(7), ARTICLES, bound=0, resamples=100)
    assert math.isnan(compared.p_value)


def test_the_p_value_of_a_difference_agrees_with_its_interval():
    first, second = margins(2, mean=0.9), margins(2, mean=0.5)
    assert compare_standardised_margins(first, second, ARTICLES, bound=0).p_value < 0.01
    assert compare_standardised_margins(first, first, ARTICLES, bound=0).p_value == 1
    for seed in range(3, 9):
        interval, p_value, _ = compare_standardised_margins(
            margins(seed), margins(seed + 100, mean=0.7), ARTICLES, bound=0
        )
        assert (p_value < 0.05) == (interval.low > 0 or interval.high < 0)


def test_discordance_counts_questions_that_one_model_alone_answers():
    assert discordance([1, 1, -1, -1], [1, -1, 1, -1]) == 0.5
    with pytest.raises(ValueError, match="2 and 3 margins"):
        discordance([1, 2], [1, 2, 3])


def test_intraclass_correlation_is_the_share_of_variance_between_articles():
    articles = np.repeat(np.arange(400), 5)
    rng = np.random.default_rng(13)
    values = rng.normal(size=400)[articles] + 2.0 * rng.normal(size=articles.size)
    assert intraclass_correlation(values, articles) == pytest.approx(0.2, abs=0.04)
    assert math.isnan(intraclass_correlation([1.0, 2.0], [0, 1]))


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="about one article"):
        standardised_margin_interval([1.0, 2.0], [7, 7])
    with pytest.raises(ValueError, match="one article per question"):
        standardised_margin_interval([1.0, 2.0], [7, 7, 8])
    with pytest.raises(ValueError, match="same seeds and questions"):
        compare_standardised_margins([[1.0, 2.0]], [[1.0, 2.0], [1.0, 3.0]], [0, 1], bound=0)
    with pytest.raises(ValueError, match=r"Pass \(seeds, generations, questions\)"):
        standardised_margin_failure([0, 1], [[1.0, 2.0]], [0, 1])


def test_crossing_times_of_many_curves_are_those_of_one_at_a_time():
    rng = np.random.default_rng(0)
    generations = np.array([0.0, 1.0, 2.0, 4.0, 7.0])
    curves = rng.normal(1, 0.6, (5, 2000))
    curves[:, :200][rng.random((5, 200)) < 0.2] = np.nan
    curves[0, 300:310], curves[1, 310:320] = np.inf, np.inf
    expected = []
    for curve in curves.T:
        failure = time_to_failure(generations.tolist(), curve.tolist(), limit=0.5 * float(curve[0]))
        state = failure.state if math.isfinite(curve[0]) else "undefined"
        expected.append({"failed": failure.time, "censored": math.inf, "undefined": 0.0}[state])
    assert len(set(expected)) > 500
    assert crossing_times(generations, curves, 0.5).tolist() == expected
