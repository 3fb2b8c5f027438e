"""Naive references: n-grams of the corpus without the sentences that are asked about, and other models."""

from collections import Counter
from math import log

import pytest

from tailkeep.data.corpus import Layout
from tailkeep.errors import InputError
from tailkeep.kr_test.build import build_cloze
from tailkeep.kr_test.cloze import blanks_of, both_questions, gather, pair_up
from tailkeep.kr_test.corpus import AnnotatedDocument, sentences_of, words_of
from tailkeep.kr_test.lint import NGramReference, balanced
from tests.kr_test.corpus import documents, write

TEXT = "It began. They came to Porto by ship that day. It went on. They came to Turin by rail that day."


def pair_of(text):
    """The one pair of two names of a text."""
    (pair,) = pair_up(list(blanks_of(AnnotatedDocument(0, text))), seed=0)
    return pair


def reference_of(pair, *sentences):
    reference = NGramReference([pair])
    for sentence in sentences:
        reference.add(sentence)
    return reference


def test_the_margin_is_that_of_stupid_backoff_over_the_entity_and_two_words():
    pair = pair_of(TEXT)
    assert {blank.entity.text for blank in pair} == {"Porto", "Turin"}
    reference = reference_of(pair, "We came to Porto.", "He sails to Porto by ship.", "It is by ship.")
    margins = dict(zip((blank.entity.text for blank in pair), reference.margins([pair])[0], strict=True))
    total = 4 + 6 + 4 + 1
    porto = log(1 / 1) + log(1 / 2) + log(1 / 1)  # came to Porto; to Porto by; Porto by ship
    turin = 2 * log(0.4) + log(1 / total) + 2 * log(0.4) + log((2 + 1) / total) + log(0.4) + log(2 / 2)
    assert margins["Porto"] == pytest.approx(porto - turin)


def test_the_sentences_that_are_asked_about_are_not_counted():
    pair = pair_of(TEXT)
    assert reference_of(pair, *sentences_of(TEXT)).margins([pair]) == [(0.0, 0.0)]


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (["Porto by ship.", "Turin by rail."], "more"),
        (["Porto by rail.", "Turin by ship."], "fewer"),
        (["To Porto.", "To Porto."], "one"),
        ([], "one"),
    ],
)
def test_a_pair_is_kept_if_one_question_of_two_is_answered(seen, verdict):
    pair = pair_of(TEXT)
    kept, counts = balanced([pair], reference_of(pair, *seen).margins)
    assert counts == {verdict: 1}
    assert kept == ([pair] if verdict == "one" else [])


def independent_margin(sentence, other, counts, total):
    """Stupid backoff over whole sentences, from counts of all n-grams: the difference is that of the entity alone."""

    def score(words):
        value = 0.0
        for end in range(1, len(words) + 1):
            gram, penalty = words[max(0, end - 3) : end], 0.0
            while len(gram) > 1 and not counts[gram]:
                gram, penalty = gram[1:], penalty + log(0.4)
            value += penalty + log(counts[gram] / counts[gram[:-1]] if len(gram) > 1 else (counts[gram] + 1) / total)
        return value

    return round(score(tuple(words_of(sentence))) - score(tuple(words_of(other))), 6)


def test_n_grams_of_the_rest_of_the_corpus_answer_exactly_half_of_what_is_built(tmp_path):
    found = build_cloze([str(write(tmp_path / "corpus.txt", 80))], Layout(), num_questions=40)
    candidates = pair_up(gather(documents(80), num_questions=40, seed=0), seed=0)
    excluded = {blank.sentence for pair in candidates for blank in pair}
    counts, total = Counter(), 1
    for document in documents(80):
        for sentence in sentences_of(document.text):
            words = tuple(words_of(sentence)) if sentence not in excluded else ()
            total += len(words)
            grams = [words[end - n : end] for end in range(1, len(words) + 1) for n in range(1, min(3, end) + 1)]
            counts.update(grams)
    margins = [independent_margin(q.sentence_true, q.sentence_false, counts, total) for q in found.questions]
    assert len(margins) == 40
    assert sum((margin > 0) + (margin == 0) / 2 for margin in margins) == 20
    assert found.counts["pairs of which n-grams answer one"] >= 20


def test_a_reference_model_must_answer_half_too_and_is_not_asked_more_than_it_takes(tmp_path):
    corpus, batches = [str(write(tmp_path / "corpus.txt"))], []

    def knows_every_third(pairs):
        batches.append(len(pairs))
        return [(1.0, 1.0 if number % 3 == 0 else -1.0) for number, _ in enumerate(pairs)]

    found = build_cloze(corpus, Layout(), num_questions=10, reference=knows_every_third)
    assert len(found.questions) == 10
    assert batches == [5, 5]
    assert found.counts["pairs of which the reference model answer more"] == 4
    with pytest.raises(InputError, match="a naive reference tells true from false"):
        build_cloze(corpus, Layout(), num_questions=10, reference=lambda pairs: [(1.0, 1.0) for _ in pairs])


def test_the_two_questions_of_a_pair_stay_together(tmp_path):
    found = build_cloze([str(write(tmp_path / "corpus.txt"))], Layout(), num_questions=20)
    pairs = pair_up(gather(documents(), num_questions=20, seed=0), seed=0)
    built = {question.sentence_true for question in found.questions}
    whole = [pair for pair in pairs if {question.sentence_true for question in both_questions(pair)} <= built]
    assert len(whole) == 10
