import json

import numpy as np
import pytest

from tailkeep.data import Question
from tailkeep.errors import InputError
from tailkeep.kr_test.lint import bag_of_words_signs, check, find_shortcuts, leaks
from tests.kr_test.corpus import FIRST


def written(tmp_path, *items):
    path = tmp_path / "kr.json"
    path.write_text(json.dumps(items))
    return path


def item(context="A.", true="It is red.", false="It is blue.", **more):
    return {"context": context, "sentence_true": true, "sentence_false": false, **more}


def test_repeats_leaks_identical_and_malformed_items_are_named(tmp_path):
    path = written(
        tmp_path, item(), item(true="IT  is red."), item(context="It was red."), item(true="It is Blue."),
        item(false="It is red."), {"context": "x"}, 7,
    )  # fmt: skip
    found = check(path)
    assert (found.items, len(found.malformed)) == (7, 3)
    assert (found.repeated, found.leaking, found.identical) == (["item 2"], ["item 3"], ["item 4"])
    assert "7 items" in next(found.lines())


@pytest.mark.parametrize(("true", "false"), [("1,000", "$1000"), ("1000.00", "1 000".replace(" ", ","))])
def test_equal_numbers_in_other_spellings_are_identical(tmp_path, true, false):
    path = written(tmp_path, item(true=f"It cost {true} then.", false=f"It cost {false} then."), item())
    assert check(path).identical == ["item 1"]


def test_a_file_without_any_question_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none of its 1 items is a question\. The first: .*item 1"):
        check(written(tmp_path, {"a": 1}))


def test_an_answer_leaks_if_only_it_stands_in_the_context():
    assert leaks(Question("The red one.", "It is red.", "It is blue."))
    assert not leaks(Question("Red or blue.", "It is red.", "It is blue."))
    assert leaks(Question("So: it is red. Yes.", "It is red.", "It is not red."))
    # Whole words only.
    assert leaks(Question("\u6cd5\u56fd\u7684\u9996\u90fd\u662f\u5df4\u9ece\u3002", "\u5df4\u9ece", "\u91cc\u6602"))
    assert not leaks(Question("He arose at dawn and picked a", "rose", "lily"))
    assert not leaks(Question("It was a very old.", "It is old.", "It is not old."))


def many(true, false, count=60):
    rng = np.random.default_rng(0)
    return [Question("A.", true.format(rng.choice(FIRST), n), false.format(rng.choice(FIRST), n)) for n in range(count)]


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("negation", "{} was here on day {}.", "{} wasn't here on day {}."),
        ("words", "{} was here on a day {}.", "{} was here on day {}."),
        ("characters", "{} was here on some day {}.", "{} was here on day {}."),
        ("digits", "{} was here on day {}0.", "{} was here on days {}."),
        ("capitals", "{} was HERE on day {}.", "{} was here on day {}."),
        ("bag of words", "{} was here on a day {}.", "{} was here on no day {}."),
    ],
)
def test_a_shortcut_that_is_planted_is_found(name, true, false):
    (shortcut,) = (found for found in find_shortcuts(many(true, false)) if found.name == name)
    assert shortcut.is_significant
    assert abs(shortcut.accuracy.mean - 0.5) > 0.45


def test_words_alone_tell_nothing_where_their_sides_are_drawn():
    rng = np.random.default_rng(1)
    questions = [
        Question("A.", *(f"It is {word}." for word in rng.choice(FIRST, 2, replace=False))) for _ in range(400)
    ]
    assert abs(np.mean(bag_of_words_signs(questions) > 0) - 0.5) < 0.15
    assert not any(shortcut.is_significant for shortcut in find_shortcuts(questions))


def test_too_few_questions_decide_nothing():
    assert bag_of_words_signs(many("{} is x {}.", "{} is y {}.", count=2)).tolist() == [0, 0]
