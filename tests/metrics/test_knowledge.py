import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.metrics import kr_accuracy, kr_fractions, kr_margin

log_probs = st.lists(st.floats(-50, 0), min_size=1, max_size=20)


def test_a_margin_is_the_difference_of_means_over_the_common_length():
    assert kr_margin([-1.0, -2.0, -30.0], [-3.0, -2.0]) == pytest.approx(-1.5 + 2.5)


@settings(deadline=None)
@given(log_probs, log_probs)
def test_swapping_the_sentences_flips_the_margin(true, false):
    assert kr_margin(true, false) == -kr_margin(false, true)


@settings(deadline=None)
@given(log_probs, st.lists(st.floats(-50, 0), max_size=5))
def test_tokens_beyond_the_shorter_sentence_change_nothing(sentence, more):
    assert kr_margin(sentence + more, sentence) == 0.0


def test_a_sentence_without_tokens_is_an_error():
    with pytest.raises(ValueError, match="sentences of 0 and 1 tokens"):
        kr_margin([], [-1.0])


def test_accuracy_is_the_share_of_positive_margins_and_half_the_ties():
    assert kr_accuracy([2.0, 1e-9, 0.0, -3.0]) == pytest.approx(2.5 / 4)


def test_a_model_that_cannot_tell_is_at_chance():
    assert kr_accuracy([0.0] * 7) == 0.5


def test_an_impossible_truth_loses_and_an_impossible_falsehood_wins():
    assert kr_accuracy([kr_margin([-math.inf], [-1.0]), kr_margin([-1.0], [-math.inf])]) == 0.5


def test_a_nan_margin_or_no_question_gives_nan():
    assert math.isnan(kr_accuracy([1.0, kr_margin([-math.inf], [-math.inf])]))
    assert math.isnan(kr_accuracy([]))


def test_the_other_scores_count_all_tokens():
    true, false = [-1.0, -2.0, -30.0], [-3.0, -2.0]
    assert kr_margin(true, false, over="mean") == pytest.approx(-11 + 2.5)
    assert kr_margin(true, false, over="sum") == pytest.approx(-33 + 5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 0), st.floats(-50, 0)), min_size=1, max_size=10))
def test_sentences_of_one_length_are_judged_alike_by_all_scores(pairs):
    true, false = zip(*pairs, strict=True)
    common, mean, total = (kr_margin(true, false, over=over) for over in ("common", "mean", "sum"))
    assert common == mean
    assert total == pytest.approx(common * len(pairs), abs=1e-9)


def test_a_question_whose_source_reaches_into_the_next_fraction_is_in_none():
    # Lines 0-99 in two halves: the source at 40 reaches to 59, those at 0, 60 and 90 lie inside a half.
    assert kr_fractions([0, 40, 40, 60, 90], 2, total=100).tolist() == [0, -1, -1, 1, 1]


def test_fractions_that_begin_with_a_source_lose_no_question():
    assert kr_fractions([0, 1, 2, 3, 4, 5], 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert kr_fractions([5, 0, 3], 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("locations", "fractions", "total"), [([], 1, None), ([0], 0, None), ([-1], 1, None), ([7], 2, 7)]
)
def test_fractions_of_what_is_no_corpus_are_an_error(locations, fractions, total):
    with pytest.raises(ValueError, match=r"Pass at least one|total must be above the last location 7, got 7"):
        kr_fractions(locations, fractions, total=total)
