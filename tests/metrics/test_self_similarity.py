"""Self-BLEU by hand, and the Vendi score on samples alike and apart."""

import math

import numpy as np
import pytest

from tailkeep.metrics import self_bleu, vendi_score
from tailkeep.metrics.diversity import _log_brevity


def test_samples_that_all_occur_twice_have_a_self_bleu_of_1():
    samples = [["the", "cat", "sat", "on", "the", "mat"], ["a", "dog", "ran", "in", "the", "park"]] * 2
    assert self_bleu(samples) == pytest.approx(1.0)


def test_samples_without_a_common_word_have_a_self_bleu_near_0():
    samples = [[f"{number}-{word}" for word in range(20)] for number in range(5)]
    assert self_bleu(samples) == pytest.approx(math.exp(np.mean([math.log(0.1 / (21 - n)) for n in (1, 2, 3, 4)])))


def test_self_bleu_by_hand():
    # For the first, 2 of 3 words and 1 of 2 pairs are in the others; the reference is as long.
    samples = [["a", "b", "c"], ["a", "b", "d"], ["x", "y", "z", "w"]]
    first = math.sqrt(2 / 3 * 1 / 2)
    third = math.sqrt(0.1 / 4 * 0.1 / 3)
    assert self_bleu(samples, order=2) == pytest.approx((first + first + third) / 3)


def test_a_repeated_word_counts_as_often_as_the_text_that_has_it_most():
    # 'the' seven times, of which another text has two; lengths 7 and 2: the short one pays for brevity.
    samples = [["the"] * 7, ["the", "the"]]
    assert self_bleu(samples, order=1) == pytest.approx((2 / 7 + 1.0 * math.exp(1 - 7 / 2)) / 2)


def test_the_vendi_score_counts_different_samples():
    alike = [["a", "b", "c", "d"]] * 6
    apart = [[f"{number}{word}" for word in "abcd"] for number in range(6)]
    assert vendi_score(alike) == pytest.approx(1.0)
    assert vendi_score(apart) == pytest.approx(6.0)
    assert vendi_score(alike[:3] + apart[:1]) == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    )


def test_the_vendi_score_of_two_samples_follows_from_their_cosine():
    # Words (1, 1, 0) and (0, 1, 1): cosine 1/2; pairs have none in common: 0. Mean 1/4: eigenvalues (1 +- 1/4) / 2.
    shares = np.array([0.625, 0.375])
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert vendi_score([["a", "b"], ["b", "c"]], orders=(1, 2)) == pytest.approx(expected)


def test_too_few_samples_have_neither():
    assert math.isnan(self_bleu([["a"]]))
    assert math.isnan(self_bleu([["a"], []]))
    assert math.isnan(vendi_score([]))
    assert vendi_score([[], []]) == pytest.approx(2.0)


def test_the_nearest_length_is_that_of_another_sample():
    """Against all pairs: brevity penalties by bisection of the sorted lengths."""
    lengths = np.random.default_rng(0).integers(1, 30, 60).tolist()
    for owner, penalty in enumerate(_log_brevity(lengths)):
        length, others = lengths[owner], [*lengths[:owner], *lengths[owner + 1 :]]
        nearest = min(others, key=lambda other: (abs(other - length), other))
        assert penalty == min(0.0, 1 - nearest / length)
