import numpy as np
import pytest

from tailkeep.data import Question
from tailkeep.errors import ConfigError
from tailkeep.kr_test.evaluate import QuestionMargins, compare, parts_of, row_lines, tree_of
from tailkeep.metrics import binomial_interval, holm_correction, kr_rows

COMMON = np.array([1.0, 1.0, -1.0, 0.0, 2.0, -2.0])
MARGINS = QuestionMargins(COMMON, -COMMON, np.ones(6), uneven=2)


def test_the_total_and_each_fraction_have_their_own_row():
    rows = kr_rows(MARGINS, np.array([0, 0, 0, -1, 1, 1]))
    assert [(row.part, row.items) for row in rows] == [("total", 6), ("fraction 0", 3), ("fraction 1", 2)]
    assert rows[0].accuracy == binomial_interval(3.5, 6)
    assert (rows[0].by_sum, rows[0].by_mean) == (2.5 / 6, 1.0)
    assert rows[1].accuracy.mean == 2 / 3
    # Six questions are too few to resample.
    assert np.isnan(rows[0].bootstrap.low)
    assert [("too few articles" in line) for line in row_lines(rows)] == [False, True, True, True]


def test_the_second_interval_resamples_the_articles_that_questions_are_about():
    """Questions of one article are answered alike, so 300 of them say as much as 30."""
    articles = np.repeat(np.arange(30), 10)
    right = np.random.default_rng(0).choice([-1.0, 1.0], 30)[articles]
    margins = QuestionMargins(right, right, right)
    (by_question,), (by_article,) = kr_rows(margins), kr_rows(margins, articles=articles)
    assert by_article.accuracy == by_question.accuracy
    widths = [row.bootstrap.high - row.bootstrap.low for row in (by_question, by_article)]
    assert widths[1] == pytest.approx(np.sqrt(10) * widths[0], rel=0.1)


def test_a_margin_that_is_no_number_makes_its_row_none():
    (row,) = kr_rows(QuestionMargins(np.array([1.0, np.nan]), np.ones(2), np.ones(2)))
    assert np.isnan(row.accuracy).all()
    assert row.by_sum == 1.0


def test_two_models_are_compared_on_the_questions_that_both_decide():
    found = compare(COMMON, np.array([1.0, -1.0, -1.0, 1.0, -1.0, 0.0]), reference="x")
    assert (found.test.only_first, found.test.only_second, found.num_ties) == (2, 0, 2)
    assert found.test.p_value == 0.5
    assert tree_of(kr_rows(MARGINS), MARGINS, [found])["comparisons"][0]["test"]["only_first"] == 2


def test_questions_without_a_place_have_no_fractions():
    with pytest.raises(ConfigError, match="1 of 2 questions have no 'location'"):
        parts_of([Question("a", "b", "c", 1), Question("a", "b", "c")], 2)
    with pytest.raises(ConfigError, match="total must be above the last location 5, got 3"):
        parts_of([Question("a", "b", "c", 5)], 2, total=3)


def test_holm_multiplies_the_smallest_by_all_and_never_turns_the_order():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.9, 0.8]) == [1.0, 1.0]
    assert holm_correction([]) == []
