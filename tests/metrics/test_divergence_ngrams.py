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
    divergence = ngram_kl(corpus, corpus, n)
    assert math.isnan(divergence) or divergence == pytest.approx(0.0, abs=1e-12)


def test_unigrams_agree_with_the_histograms():
    a, b = np.random.default_rng(0).integers(0, 8, (2, 500))
    expected = kl_divergence(unigram_counts(a, 8), unigram_counts(b, 8), smoothing=0.5)
    assert ngram_kl([a], [b], 1) == pytest.approx(expected)


def test_as_many_ngrams_of_each_side_are_compared():
    # Of the longer side one n-gram is drawn: whichever it is, the histograms are one count against another.
    apart = math.log(1.5 / 0.5) * (1.5 - 0.5) / 2
    assert ngram_kl([[1, 2]], [[3, 4, 5, 6]], 2) == pytest.approx(apart)
    assert ngram_kl([[3, 4, 5, 6]], [[1, 2]], 2) == pytest.approx(apart)


def test_the_subsample_of_the_larger_side_follows_the_seed_and_serves_both_directions():
    short, long = [[1, 2, 3, 1, 1, 2]], [list(np.random.default_rng(0).integers(0, 9, 400))]
    divergences = {ngram_kl(short, long, 1, seed=seed) for seed in range(20)}
    assert len(divergences) > 1
    assert ngram_kl(short, long, 1, seed=3) == ngram_kl(short, long, 1, seed=3)
    # Of constant n-grams any subsample is the same, so both directions of KL are those of equal histograms.
    constant, uneven = [[1] * 400], [[1, 2, 3, 1, 1, 2]]
    cells = np.array([[3, 2, 1], [6, 0, 0]])
    for p, q, rows in ((uneven, constant, cells), (constant, uneven, cells[::-1])):
        assert ngram_kl(p, q, 1, seed=3) == pytest.approx(kl_divergence(*rows, floor=0.0, smoothing=0.5))


def test_texts_of_one_length_are_not_read_in_the_same_places():
    """One percent of the tokens is replaced; a hundredth of each text is read, which has its noise."""
    rng = np.random.default_rng(2)
    text = rng.integers(0, 300, 50_000)
    other = np.where(rng.random(text.size) < 0.01, 999, text)
    near = ngram_kl([text], [other], 1, max_ngrams=500)
    assert near == pytest.approx(ngram_kl([text], [np.append(other, 5)], 1, max_ngrams=500), rel=0.3)
    assert ngram_kl([text], [text], 1, max_ngrams=500) == 0


def test_a_longer_text_of_the_same_distribution_is_no_further_away():
    rng = np.random.default_rng(1)
    text, equal, longer = (list(rng.choice(50, size)) for size in (2000, 2000, 40_000))
    near, far = ngram_kl([text], [equal], 2), ngram_kl([text], [longer], 2)
    assert far == pytest.approx(near, rel=0.1)


def test_a_side_without_ngrams_gives_nan():
    assert math.isnan(ngram_kl([[1]], [[1, 2]], 2))
    assert math.isnan(ngram_kl([], [[1, 2]], 1))


def test_an_ngram_of_no_tokens_is_an_error():
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        ngram_counts([[1]], [[1]], 0)
