import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.metrics import confidence_histogram, perplexity, share_above

log_probs = st.lists(st.floats(-100, 0), max_size=50)


@settings(deadline=None)
@given(log_probs, st.lists(st.floats(-20, 20), min_size=2, max_size=40, unique=True).map(sorted))
def test_every_token_falls_into_one_bin(values, edges):
    assert confidence_histogram(values, edges=edges).sum() == len(values)


def test_a_bin_holds_its_lower_edge():
    # ln 0.5 has the logit 0 exactly.
    assert confidence_histogram(np.log([0.5, 0.25, 0.75]), edges=[-2, 0, 2]).tolist() == [1, 2]


def test_certainty_and_the_impossible_count_in_the_outer_bins():
    assert confidence_histogram([-math.inf, 0.0], edges=[-1, 0, 1]).tolist() == [1, 1]


def test_the_logit_separates_high_probabilities_that_equal_bins_would_merge():
    values = np.log([0.99, 0.999, 0.9999])
    assert confidence_histogram(values, edges=[0, 5, 7, 9, 10]).tolist() == [1, 1, 0, 1]
    assert confidence_histogram(values).max() == 1


def test_rounding_above_zero_is_certainty():
    assert confidence_histogram([1e-6], edges=[-1, 0, 1]).tolist() == [0, 1]
    assert perplexity([1e-6]) == 1.0


def test_the_share_above_a_threshold_leaves_the_threshold_itself_out():
    values = np.log([0.5, 0.9, 0.99, 1.0])
    assert share_above(values, 0.9) == pytest.approx(0.5)
    assert share_above(values, 1.0) == 0.0
    assert share_above(values, 0.0) == 1.0


@settings(deadline=None)
@given(st.floats(0.01, 1), st.integers(1, 30))
def test_a_uniform_model_has_the_perplexity_of_its_choices(probability, n):
    assert perplexity(np.full(n, math.log(probability))) == pytest.approx(1 / probability)


def test_perplexity_is_the_inverse_geometric_mean():
    assert perplexity(np.log([0.5, 0.125])) == pytest.approx(4.0)


def test_an_impossible_text_has_infinite_perplexity():
    assert perplexity([-math.inf, -1.0]) == math.inf
    assert perplexity([-1e6]) == math.inf


def test_no_tokens_have_neither_perplexity_nor_share():
    assert math.isnan(perplexity([]))
    assert math.isnan(share_above([], 0.5))
    assert confidence_histogram([], edges=[0, 1, 2, 3]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [math.nan, 0.5, math.inf])
def test_an_invalid_log_probability_is_an_error(bad):
    for measure in (confidence_histogram, perplexity, lambda values: share_above(values, 0.5)):
        with pytest.raises(ValueError, match="log-probabilities must be <= 0"):
            measure([-1.0, bad])


def test_a_threshold_outside_0_to_1_is_an_error():
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1\.5"):
        share_above([-1.0], 1.5)


@pytest.mark.parametrize("edges", [[], [1.0], [1.0, 1.0], [2.0, 1.0]])
def test_edges_that_do_not_ascend_are_an_error(edges):
    with pytest.raises(ValueError, match="edges must be at least two ascending numbers"):
        confidence_histogram([-1.0], edges=edges)
