import json

import pytest

from tailkeep.errors import BusyError, InputError
from tailkeep.kr_test.build import build_by_llm, unanswered
from tailkeep.kr_test.corpus import AnnotatedDocument
from tailkeep.kr_test.endpoint import Endpoint, EndpointError, Reply
from tailkeep.kr_test.llm_writer import Passage, estimate, open_answers, passages_of, questions_in
from tests.kr_test.corpus import documents
from tests.kr_test.server import answer, questions, serving

PASSAGES = [Passage(number, f"passage {number}") for number in range(4)]


def ask(server, out, *, num_questions=8, **choices):
    endpoint = Endpoint(server.url, "m", sleep=lambda _: None, **choices)
    with open_answers(out) as answers:
        return build_by_llm(PASSAGES, endpoint, answers, num_questions=num_questions)


def test_refused_malformed_and_leaking_answers_are_counted_and_left_out(tmp_path):
    equal = {"context": "It sold.", "sentence_true": "It cost 1,000.", "sentence_false": "It cost $1000."}
    leaking = {"context": "It was red.", "sentence_true": "It was red.", "sentence_false": "It was blue."}
    replies = [
        answer(""),
        answer("no json"),
        answer(json.dumps({"questions": [leaking, equal, {"context": "x"}]})),
        questions("old", "new"),
    ]
    with serving(*replies) as server:
        built = ask(server, tmp_path / "kr.json")
    assert [(q.sentence_true, q.location) for q in built.questions] == [("It was old.", 3), ("It was new.", 3)]
    assert {name: built.counts[name] for name in ("refused", "malformed", "identical", "leaking", "requests")} == {
        "refused": 1, "malformed": 2, "identical": 1, "leaking": 1, "requests": 4,
    }  # fmt: skip
    assert (built.counts["prompt tokens"], built.counts["completion tokens"]) == (40, 20)


def test_a_question_that_two_answers_hold_is_asked_once(tmp_path):
    with serving(questions("a", "b"), questions("b", "c"), questions("c"), questions("d")) as server:
        built = ask(server, tmp_path / "kr.json")
    assert [q.sentence_true for q in built.questions] == [f"It was {word}." for word in "abcd"]
    assert built.counts["repeated"] == 2


def test_there_are_no_more_questions_than_asked_for_and_no_request_that_is_not_needed(tmp_path):
    with serving(questions("a", "b"), questions("c", "d"), questions("e")) as server:
        built = ask(server, tmp_path / "kr.json", num_questions=3)
    assert [q.sentence_true for q in built.questions] == ["It was a.", "It was b.", "It was c."]
    assert len(server.requests) == built.counts["requests"] == 2


def test_a_text_that_the_corpus_has_twice_is_one_passage():
    repeated = [AnnotatedDocument(place, f"{word} " * 20) for place, word in enumerate("aabbbc")]
    for seed in range(5):
        passages = passages_of(repeated, num_passages=3, seed=seed)
        assert [passage.text[0] for passage in passages] == ["a", "b", "c"]


def test_answers_that_are_a_folder_are_refused(tmp_path):
    (tmp_path / "kr.json.answers.jsonl").mkdir()
    with (
        pytest.raises(InputError, match=r"cannot use .*kr\.json\.answers\.jsonl: Is a directory"),
        open_answers(tmp_path / "kr.json"),
    ):
        pass


def test_what_is_answered_is_not_asked_for_again_after_a_failure(tmp_path):
    out = tmp_path / "kr.json"
    with serving(questions("a"), questions("b"), (500, {}, "")) as server, pytest.raises(EndpointError):
        ask(server, out, retries=0)
    with open_answers(out) as answers:
        assert unanswered(PASSAGES, "m", answers) == PASSAGES[2:]
        assert unanswered(PASSAGES, "other", answers) == PASSAGES
    with serving(questions("c"), questions("d")) as server:
        built = ask(server, out)
    assert len(server.requests) == 2
    assert [q.sentence_true for q in built.questions] == ["It was a.", "It was b.", "It was c.", "It was d."]
    assert built.counts["answered before"] == 2


def test_a_line_that_a_kill_cut_short_is_as_if_it_were_not_there(tmp_path):
    out = tmp_path / "kr.json"
    with open_answers(out) as answers:
        answers.add("k", Reply("x", 1, 2))
    file = tmp_path / "kr.json.answers.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"key": "l", "con')
    with open_answers(out) as answers:
        assert answers.get("k") == Reply("x", 1, 2)
        assert answers.get("l") is None
    assert file.read_bytes() == whole


def test_a_file_of_something_else_is_refused_and_kept(tmp_path):
    file = tmp_path / "kr.json.answers.jsonl"
    file.write_bytes(b'{"a": 1}\n')
    with pytest.raises(InputError, match="line 1: no answer"), open_answers(tmp_path / "kr.json"):
        pass
    assert file.read_bytes() == b'{"a": 1}\n'


def test_two_builds_of_one_file_do_not_meet(tmp_path):
    with open_answers(tmp_path / "x.json"), pytest.raises(BusyError), open_answers(tmp_path / "x.json"):
        pass


def test_answers_without_any_question_are_an_error(tmp_path):
    with serving(answer("")) as server, pytest.raises(InputError, match="no usable question in 4 answers"):
        ask(server, tmp_path / "kr.json")


def test_an_estimate_counts_every_character_that_is_sent():
    found = estimate(PASSAGES)
    assert found.characters == sum(len(m["content"]) for p in PASSAGES for m in p.messages())
    assert found.passages == 4
    assert found.cost(1e6, 0) == found.prompt_tokens


def test_passages_are_drawn_by_the_seed_and_stand_in_the_order_of_the_corpus():
    sampled = passages_of(documents(), num_passages=5, seed=1)
    assert [p.location for p in sampled] == sorted(p.location for p in sampled)
    assert (
        sampled == passages_of(documents(), num_passages=5, seed=1) != passages_of(documents(), num_passages=5, seed=2)
    )
    assert passages_of([AnnotatedDocument(0, "too short")], num_passages=5, seed=0) == []
    (long,) = passages_of([AnnotatedDocument(0, "word " * 2000)], num_passages=1, seed=0)
    assert len(long.text) <= 4000
    assert long.text.endswith("word")


def test_a_question_that_an_answer_repeats_is_kept_once():
    item = {"context": "A.", "sentence_true": "B.", "sentence_false": "C."}
    questions, rejected = questions_in(Passage(7, "x"), json.dumps({"questions": [item, item, item]}))
    assert len(questions) == 1
    assert rejected == {"repeated": 2}


def test_a_question_carries_its_place_and_nothing_the_answer_says_of_it():
    text = json.dumps({"questions": [{"context": "A.", "sentence_true": "B.", "sentence_false": "C.", "location": 99}]})
    ((question,), left) = questions_in(Passage(7, "x"), text)
    assert question.location == 7
    assert not left
