"""The permutation tests: their null distribution, their corrections and their error rate."""

import math

import numpy as np
import pytest

from tailkeep.audit.comparison import match_lengths, permutation_p_values, permute_sides, prior_statistics, statistics
from tailkeep.audit.config import MAX_TESTS, SampleConfig
from tailkeep.data.hashing import split_words
from tailkeep.errors import InputError
from tailkeep.metrics import holm_correction
from tests.audit.conftest import prose, sample_of


def test_holm_rejects_step_by_step():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.5, 0.9]) == [1.0, 1.0]
    assert holm_correction([]) == []
    assert holm_correction([0.01, math.nan, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)


def test_permutations_are_balanced_and_the_first_is_the_observed_division():
    is_input = permute_sides(50, 400, seed=0)
    assert is_input[:, 0].tolist() == [True] * 50 + [False] * 50
    assert (is_input.sum(axis=0) == 50).all()
    assert abs(is_input[:, 1:].mean(axis=1) - 0.5).max() < 0.12


def test_both_sides_have_as_many_documents_of_as_many_words():
    texts = prose(60, words=20, seed=0)
    matched = match_lengths(sample_of(texts[:25]), sample_of(texts[25:]), SampleConfig(documents=20, max_words=10))
    assert matched.words == 10
    assert len(matched.texts) == 2 * matched.documents == 50
    assert split_words(matched.texts).counts.tolist() == [10] * 50
    with pytest.raises(InputError, match="the samples have 19 and 35 documents"):
        match_lengths(sample_of(texts[:19]), sample_of(texts[25:]), SampleConfig())


@pytest.mark.slow
def test_equal_corpora_differ_significantly_no_more_often_than_the_level():
    """Each division in turn is taken as the observed one and ranked among all."""
    texts = prose(60, words=20, seed=3, types=300)
    matched = match_lengths(sample_of(texts[:30]), sample_of(texts[30:]), SampleConfig(max_words=16))
    results = list(statistics(matched, permute_sides(matched.documents, 640, 0)))
    p_values = np.stack([permutation_p_values(name, values) for name, values, _ in results])
    assert p_values.min() == pytest.approx(1 / 641)
    alarms = [min(holm_correction(column)) <= 0.05 for column in p_values.T.tolist()]
    assert 0 < np.mean(alarms) <= 0.05


def test_higher_confidence_on_one_side_is_detected_and_so_is_a_narrower_spread():
    rng = np.random.default_rng(0)
    sides = [rng.normal(-1, 0.05, (60, 40)), rng.normal(-2, 0.05, (60, 40)) + rng.normal(0, 0.6, (60, 1))]
    log_probs = [row.astype(np.float32) for row in np.minimum(np.concatenate(sides), -1e-6)]
    by_name = {
        name: (values, values_of) for name, values, values_of in prior_statistics(log_probs, permute_sides(60, 640, 0))
    }
    assert len(by_name) + 20 <= MAX_TESTS
    surprise, (input_mean, reference_mean) = by_name["prior: surprise"]
    assert (input_mean, reference_mean) == pytest.approx((1, 2), abs=0.2)
    assert abs(surprise[0]) > np.abs(surprise[1:]).max()
    spread, (narrow, wide) = by_name["prior: spread of surprise"]
    assert narrow == pytest.approx(float(np.std([-row.mean() for row in log_probs[:60]])), rel=1e-4)
    assert wide > 5 * narrow
    assert spread[0] < spread[1:].min()
