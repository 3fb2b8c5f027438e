import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data import Question, read_questions, write_questions
from tailkeep.errors import InputError

PUBLISHED = {"context": "C.", "sentence_true": "T.", "sentence_false": "F.", "location": 4}

plain = st.text(st.characters(codec="utf-8"), min_size=1).map(str.strip).filter(bool)
questions = st.builds(Question, plain, plain, plain, st.none() | st.integers(0, 10**9)).filter(
    lambda question: question.sentence_true != question.sentence_false
)


@settings(deadline=None)
@given(items=st.lists(questions, min_size=1), ending=st.sampled_from(["json", "jsonl"]))
def test_questions_written_are_read_back(tmp_path_factory, items, ending):
    path = tmp_path_factory.mktemp("items") / f"kr.{ending}"
    write_questions(path, items)
    assert read_questions(path) == items


def test_the_published_form_is_read(tmp_path):
    path = tmp_path / "kr.json"
    path.write_text(json.dumps([PUBLISHED, PUBLISHED | {"location": None, "source": "x"}]))
    assert read_questions(path) == [Question("C.", "T.", "F.", 4), Question("C.", "T.", "F.", None)]


def test_sentences_start_without_white_space(tmp_path):
    path = tmp_path / "kr.json"
    path.write_text(json.dumps([PUBLISHED | {"sentence_true": " T. ", "context": "C. "}]))
    assert read_questions(path) == [Question("C.", "T.", "F.", 4)]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"context": "C", "sentence_true": "T"}, "item 2: the key 'sentence_false' is missing"),
        (PUBLISHED | {"context": 3}, "item 2: 'context' is 3"),
        (PUBLISHED | {"sentence_true": " "}, "item 2: 'sentence_true' is empty"),
        (PUBLISHED | {"sentence_true": "F."}, "item 2: both sentences are 'F.'"),
        (PUBLISHED | {"location": "4"}, "item 2: 'location' is '4'"),
        (PUBLISHED | {"location": True}, "item 2: 'location' is True"),
        (PUBLISHED | {"context": "\ud83d"}, "item 2, 'context': half a surrogate pair"),
        ("C", "item 2: expected an object, got str"),
    ],
)
def test_an_invalid_question_is_named(tmp_path, item, message):
    path = tmp_path / "kr.json"
    path.write_text(json.dumps([PUBLISHED, item]))
    with pytest.raises(InputError, match=message):
        read_questions(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("kr.json", "[", "the array does not end"),
        ("kr.json", "{}", "line 1: the key 'context' is missing"),
        ("kr.json", "[]", "holds no question"),
        ("kr.jsonl", "\n", "holds no question"),
        ("kr.jsonl", json.dumps(PUBLISHED) + "\n\n{", "line 3: not JSON"),
    ],
)
def test_a_file_that_holds_no_questions_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_questions(path)
