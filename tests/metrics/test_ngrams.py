import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.metrics import kl_divergence, ngram_counts, ngram_kl, unigram_counts

corpora = st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=6)


def test_ngrams_are_counted_within_sequences():
    counts = ngram_counts([[1, 2, 1, 2], [3]], [[2, 1]], 2)
    # cells in order: (1, 2), (2, 1)
    assert counts.tolist() == [[2, 1], [0, 1]]


@settings(deadline=None)
@given(corpora, corpora, st.integers(1, 4))
def test_every_ngram_is_counted_once(first, second, n):
    counts = ngram_counts(first, second, n)
    totals = [sum(max(len(row) - n + 1, 0) for row in corpus) for corpus in (first, second)]
    assert counts.sum(axis=1).tolist() == totals


@settings(deadline=None)
@given(corpora, st.integers(1, 4))
def test_a_corpus_does_not_differ_from_itself(corpus, n):
    found = ngram_kl(corpus, corpus, n)
    assert math.isnan(found) or found == pytest.approx(0.0, abs=1e-12)


def test_unigrams_agree_with_the_histograms():
    a, b = np.random.default_rng(0).integers(0, 8, (2, 500))
    expected = kl_divergence(unigram_counts(a, 8), unigram_counts(b, 8), smoothing=0.5)
    assert ngram_kl([a], [b], 1) == pytest.approx(expected)


def test_more_of_the_same_text_changes_nothing():
    text = [[1, 2, 3, 1], [2, 2, 3]]
    assert ngram_kl(text, [*text, [9, 9, 9, 9, 9]], 2) == pytest.approx(0.0, abs=1e-12)


def test_the_longer_side_is_cut_within_a_sequence():
    assert ngram_kl([[1, 2]], [[1, 2, 7, 7, 7]], 1) == pytest.approx(0.0, abs=1e-12)


def test_a_side_without_ngrams_gives_nan():
    assert math.isnan(ngram_kl([[1]], [[1, 2]], 2))
    assert math.isnan(ngram_kl([], [[1, 2]], 1))


def test_an_ngram_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="n is 0"):
        ngram_counts([[1]], [[1]], 0)
