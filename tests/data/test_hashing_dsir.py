"""Importance weights of hashed words, against closed forms."""

import numpy as np
import pytest

from tailkeep.data.hashing import BUCKETS, buckets_of, count_features, log_ratios, ngrams_of, split_words


def test_a_text_has_its_words_and_its_pairs_of_words_and_nothing_across_texts():
    counts = count_features(["a b a", "", "b b"])
    assert counts.shape == (3, BUCKETS)
    assert counts.sum(axis=1).tolist() == [3 + 2, 0, 2 + 1]
    (places,) = (buckets_of(ngrams.hashes, BUCKETS) for ngrams in ngrams_of(split_words([b"a b"]), 1))
    assert counts.toarray()[:, places].tolist() == [[2, 1], [0, 0], [0, 2]]


def test_a_ratio_is_that_of_the_shares_with_half_an_occurrence_added():
    input_counts, reference_counts = np.array([3, 0, 1]), np.array([1, 2, 0])
    expected = np.log([1.5 / 4.5, 2.5 / 4.5, 0.5 / 4.5]) - np.log([3.5 / 5.5, 0.5 / 5.5, 1.5 / 5.5])
    assert log_ratios(input_counts, reference_counts) == pytest.approx(expected)
    assert log_ratios(reference_counts, input_counts) == pytest.approx(-expected)


def test_equal_corpora_give_every_text_the_weight_1():
    counts = count_features(["the red cat", "the old boat"])
    assert counts @ log_ratios(counts.sum(axis=0), counts.sum(axis=0)) == pytest.approx([0, 0])


def test_a_text_of_the_reference_weighs_more_than_one_of_the_input():
    input_counts = count_features(["the red cat"] * 9 + ["the old boat"])
    reference_counts = count_features(["the old boat"] * 9)
    logs = log_ratios(input_counts.sum(axis=0), reference_counts.sum(axis=0))
    cat, boat = count_features(["the red cat", "the old boat"]) @ logs
    assert cat < 0 < boat
