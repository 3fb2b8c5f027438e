"""Credit of a choice by likelihood, its log odds and macro F1, by hand."""

import math

import numpy as np
import pytest

from tailkeep.metrics import choice_credit, choice_log_odds, macro_f1


def test_the_most_likely_choice_counts_and_a_tie_is_shared():
    assert choice_credit([-3.0, -1.0, -2.0], 1) == 1.0
    assert choice_credit([-3.0, -1.0, -2.0], 0) == 0.0
    assert choice_credit([-1.0, -1.0, -2.0], 0) == 0.5


def test_log_odds_compare_the_right_choice_with_all_others_together():
    assert choice_log_odds(np.log([0.2, 0.1, 0.1]), 0) == pytest.approx(0.0)
    assert choice_log_odds(np.log([0.6, 0.2, 0.2]), 0) == pytest.approx(math.log(0.6 / 0.4))
    # Summed log-probabilities of long texts, whose probabilities are 0 in double precision.
    assert choice_log_odds([-2000.0, -2001.0], 0) == pytest.approx(1.0)


def test_macro_f1_weighs_classes_alike():
    # Class 0: 2 of 2 found with one false alarm, 0.8; class 1: one of two found, 2/3; class 2 is never found.
    assert macro_f1([0, 0, 0, 1, 1], [0, 0, 1, 1, 2]) == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert macro_f1([0, 1, 2], [0, 1, 2]) == 1.0
    # Guessing the majority class is accurate and has a low F1.
    assert macro_f1([0] * 10, [0] * 9 + [1]) == pytest.approx(0.5 * 2 * 9 / 19)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="choice 2 of 2"):
        choice_credit([-1.0, -2.0], 2)
    with pytest.raises(ValueError, match="choice 0 of 1"):
        choice_log_odds([-1.0], 0)
    with pytest.raises(ValueError, match="1 predictions for 2 items"):
        macro_f1([0], [0, 1])
