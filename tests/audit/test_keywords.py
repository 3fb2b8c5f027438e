"""Log odds, the AUC and importance weights against closed forms and known corpora."""

from dataclasses import replace

import numpy as np
import pytest

from tailkeep.audit.keywords import importance_weights, log_odds
from tailkeep.data.hashing import BUCKETS, buckets_of, ngrams_of, split_words
from tailkeep.metrics import auroc
from tests.audit.conftest import prose, sample_of


def bucket_counts(side):
    totals = np.zeros(BUCKETS, np.int64)
    for grams in ngrams_of(split_words([item.text.encode() for item in side]), 2):
        totals += np.bincount(buckets_of(grams.hashes, BUCKETS), minlength=BUCKETS)
    return totals


def test_the_log_odds_of_equal_shares_are_zero_and_grow_with_evidence():
    totals = np.array([1000.0, 2000.0])
    scores = log_odds(np.array([[10.0, 10.0, 100.0], [20.0, 2.0, 20.0]]), totals)
    assert scores[0] == pytest.approx(0, abs=1e-9)
    assert 0 < scores[1] < scores[2]


def test_separation_is_the_chance_that_one_is_above_the_other():
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert auroc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
    assert np.isnan(auroc(np.array([]), np.array([1.0])))


def test_importance_separates_different_corpora_and_not_halves_of_one():
    narrow, wide, more = prose(60, words=40, seed=1, types=30), *(prose(60, words=40, seed=s) for s in (2, 3))
    for input_texts, reference_texts, low, high in ((narrow, wide, 0.99, 1.0), (more, wide, 0.3, 0.7)):
        sides = sample_of(input_texts), sample_of(reference_texts)
        result = importance_weights(sides, tuple(bucket_counts(side) for side in sides), 3)
        assert low <= result.separation <= high
        assert len(result.examples) == 9


def test_long_documents_do_not_vote_for_their_own_side_by_what_was_cut_off():
    """Each document has words of its own; of 60,000 bytes 6,000 are sampled."""
    rng, separations = np.random.default_rng(4), []
    for _ in range(6):
        texts = [" ".join(rng.choice([f"w{number}x{word}" for word in range(400)], 8000)) for number in range(40)]
        halves = texts[::2], texts[1::2]
        sides = [[replace(item, text=item.text[:6000]) for item in sample_of(half)] for half in halves]
        totals = tuple(bucket_counts(sample_of(half)) for half in halves)
        separations.append(importance_weights(tuple(sides), totals, 3).separation)
    assert np.mean(separations) == pytest.approx(0.5, abs=0.12)
