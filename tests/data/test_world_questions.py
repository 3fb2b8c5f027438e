from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data import World, WorldConfig
from tailkeep.data.world.questions import pair_different

WORLD = World(WorldConfig(people=20, values=6, values_exponent=0.0))


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=15), st.integers(0, 100))
def test_pairs_are_disjoint_differ_and_are_as_many_as_possible(labels, seed):
    pairs = pair_different(np.array(labels, dtype=np.int64), np.random.default_rng(seed))
    used = pairs.ravel().tolist()
    assert len(set(used)) == len(used)
    assert all(labels[one] != labels[other] for one, other in pairs)
    most = max(Counter(labels).values(), default=0)
    assert len(pairs) == min(len(labels) // 2, len(labels) - most)


def test_every_fact_has_one_question_per_round():
    locations = Counter(question.location for question in WORLD.questions(rounds=3))
    assert set(locations.values()) == {3}
    assert locations.keys() == set(range(len(WORLD.facts)))


def test_the_true_sentence_is_true_and_the_false_one_false():
    for question in WORLD.questions():
        for sentence, truth in ((question.sentence_true, "true"), (question.sentence_false, "false")):
            (statement,) = WORLD.parse(f"{question.context} {sentence}").statements
            assert statement.truth == truth
            assert statement.person is not None
            assert statement.person * WORLD.config.attributes + statement.attribute == question.location


def test_the_answer_starts_with_the_value_and_the_rest_of_the_sentence_is_the_same():
    for question in WORLD.questions():
        value = WORLD.facts[question.location].value
        assert question.sentence_true.startswith(value)
        tail = question.sentence_true.removeprefix(value)
        assert question.sentence_false.endswith(tail)
        assert len(question.sentence_true.split()) == len(question.sentence_false.split())


@pytest.mark.parametrize("taste", [hash, len, lambda sentence: sentence])
def test_a_scorer_that_ignores_the_person_answers_exactly_half(taste):
    questions = WORLD.questions(rounds=2)
    points = sum(
        (taste(q.sentence_true) > taste(q.sentence_false)) + (taste(q.sentence_true) == taste(q.sentence_false)) / 2
        for q in questions
    )
    assert points == len(questions) / 2


def test_people_with_equal_values_have_no_questions():
    world = World(WorldConfig(people=1))
    assert world.questions() == []


def test_zero_rounds_are_an_error():
    with pytest.raises(ValueError, match="rounds must be >= 1, got 0"):
        WORLD.questions(rounds=0)
