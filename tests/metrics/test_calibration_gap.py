"""Oracles: confidences with known distributions. Real ones uniform on [0, 1], own ones with the density 2p."""

import math

import numpy as np
import pytest

from tailkeep.metrics import confidence_gap


def documents(confidences, *, size=50):
    return np.array_split(np.log(np.asarray(confidences)), max(1, len(confidences) // size))


GRID = (np.arange(20_000) + 0.5) / 20_000
SHUFFLED = np.random.default_rng(0).permutation(GRID)
UNIFORM, RISING = documents(SHUFFLED), documents(np.sqrt(SHUFFLED))


def test_the_gap_is_widest_where_the_densities_cross():
    gap_result = confidence_gap(UNIFORM, RISING)
    # S_own - S_real = t - t^2, largest at 1/2.
    assert gap_result.gap == pytest.approx(0.25, abs=1e-3)
    assert gap_result.crossing == pytest.approx(0.5, abs=0.02)


def test_the_threshold_drops_the_excess_of_confident_generated_tokens():
    gap_result = confidence_gap(UNIFORM, RISING)
    # 1 - t^2 = 1/4.
    assert gap_result.threshold == pytest.approx(math.sqrt(0.75), abs=1e-3)
    generated, real = np.exp(np.concatenate(RISING)), np.exp(np.concatenate(UNIFORM))
    assert np.mean(generated > gap_result.threshold) == pytest.approx(gap_result.gap, abs=1e-4)
    remaining = np.mean((generated > gap_result.crossing) & (generated <= gap_result.threshold))
    assert remaining == pytest.approx(np.mean(real > gap_result.crossing), abs=1e-4)


def test_the_threshold_is_never_below_the_crossing():
    rng = np.random.default_rng(1)
    for power in (1.05, 1.5, 3.0, 20.0):
        gap_result = confidence_gap(documents(rng.random(5000)), documents(rng.random(5000) ** (1 / power)))
        assert gap_result.threshold >= gap_result.crossing


@pytest.mark.parametrize(
    ("real", "generated"),
    [([0.3] * 3, [0.1, 0.2, 0.5, 0.6]), ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7, 0.8])],
)
def test_without_real_tokens_above_the_crossing_the_threshold_is_the_crossing(real, generated):
    """All generated tokens above it are in excess, and no real token is dropped."""
    gap_result = confidence_gap(*([np.log(side)] * 30 for side in (real, generated)))
    assert gap_result.threshold == gap_result.crossing == pytest.approx(0.3)


def test_the_more_confident_the_generated_text_the_more_is_truncated():
    thresholds = [confidence_gap(UNIFORM, documents(SHUFFLED ** (1 / power))) for power in (1.2, 2, 5)]
    dropped = [gap_result.gap for gap_result in thresholds]
    assert dropped == sorted(dropped)
    assert all(gap_result.threshold < 1 for gap_result in thresholds)


def test_texts_of_one_distribution_truncate_nothing():
    rng = np.random.default_rng(2)
    gap_result = [confidence_gap(documents(rng.random(4000)), documents(rng.random(4000))) for _ in range(60)]
    assert all(one.threshold == 1 for one in gap_result)
    assert confidence_gap(UNIFORM, UNIFORM).threshold == 1


def test_generated_text_that_is_nowhere_more_confident_truncates_nothing():
    gap_result = confidence_gap(RISING, UNIFORM)
    assert (gap_result.gap, gap_result.threshold) == (0.0, 1.0)
    assert math.isnan(gap_result.crossing)


def test_the_standard_error_is_taken_over_documents():
    # Two confidences only, one a document: 10 documents say little, however long they are.
    def texts(sure, of):
        return [np.full(1000, math.log(0.95 if n < sure else 0.2)) for n in range(of)]

    assert confidence_gap(texts(3, 10), texts(5, 10)).threshold == 1
    assert confidence_gap(texts(300, 1000), texts(500, 1000)).threshold < 1


def test_one_document_has_no_error_and_truncates_nothing():
    gap_result = confidence_gap([np.log(SHUFFLED)], [np.log(np.sqrt(SHUFFLED))])
    assert math.isinf(gap_result.error)
    assert gap_result.threshold == 1


def test_tokens_of_equal_confidence_stay_together():
    # Half of the own tokens are certain: dropping them all would drop more than the gap.
    generated = [np.array([0.0, -2.0])] * 500
    real = [np.array([0.0, -2.0, -2.0, -2.0])] * 500
    gap_result = confidence_gap(real, generated)
    assert gap_result.gap == pytest.approx(0.25)
    assert gap_result.threshold == 1


@pytest.mark.parametrize(
    ("real", "generated", "reason"),
    [
        ([], [[-1.0]], "real text has no token"),
        ([[-1.0]], [[]], "generated text has no token"),
        ([[0.5]], [[-1.0]], "log-probabilities must be <= 0"),
    ],
)
def test_a_side_without_log_probabilities_is_an_error(real, generated, reason):
    with pytest.raises(ValueError, match=reason):
        confidence_gap(real, generated)
