from collections import Counter

import pytest

from tailkeep.data import read_records, write_questions
from tailkeep.data.corpus import Layout
from tailkeep.errors import ConfigError, InputError
from tailkeep.kr_test import cloze
from tailkeep.kr_test.build import build_cloze
from tailkeep.kr_test.cloze import blanks_of, both_questions, gather, pair_up, questions_of
from tailkeep.kr_test.corpus import AnnotatedDocument, read_corpus, sentences_of
from tailkeep.kr_test.lint import check, find_shortcuts, leaks
from tests.kr_test.corpus import documents, write


def paired(num_questions=40, seed=0, **choices):
    blanks = gather(documents(), num_questions=num_questions, seed=seed)
    return pair_up(blanks, seed=seed, **choices)[: num_questions // 2]


def built(**choices):
    return questions_of(paired(**choices))


def test_the_true_sentence_continues_its_context_in_the_document():
    texts = {document.location: document.text for document in documents()}
    for question in built():
        assert f"{question.context} {question.sentence_true}" in texts[question.location]


def test_the_sentences_have_equal_words_and_characters():
    for question in built():
        assert len(question.sentence_true) == len(question.sentence_false)
        assert len(question.sentence_true.split()) == len(question.sentence_false.split())


def test_every_word_is_as_often_right_as_wrong():
    right, wrong = Counter(), Counter()
    for question in built():
        right.update(question.sentence_true.split())
        wrong.update(question.sentence_false.split())
    assert right == wrong


def test_no_shortcut_finds_anything():
    shortcuts = find_shortcuts(built())
    assert [shortcut.name for shortcut in shortcuts if shortcut.accuracy.mean != 0.5 or shortcut.is_significant] == []


def test_no_answer_leaks():
    assert built()
    assert not any(map(leaks, built()))


def test_a_pair_whose_false_sentence_is_in_the_corpus_gives_no_question(tmp_path):
    path = write(tmp_path / "corpus.txt")
    before = build_cloze([str(path)], Layout(), num_questions=1000).questions
    false = before[0].sentence_false
    with path.open("a") as file:
        file.write(f"{false}\n")
    after = build_cloze([str(path)], Layout(), num_questions=1000)
    assert after.counts["false sentences of the corpus"] == 1
    assert after.questions
    assert false not in {question.sentence_false for question in after.questions}


def test_a_check_finds_nothing_in_what_has_just_been_built(tmp_path):
    path = write(tmp_path / "corpus.txt")
    text = path.read_text()
    # Copies in other capitals and numbers spelled in other ways are what a corpus repeats.
    path.write_text(text + text.lower() + text.replace(" in 18", " in 1,8").replace("  ", " ") + text)
    write_questions(tmp_path / "kr.json", build_cloze([str(path)], Layout(), num_questions=60).questions)
    checked = check(tmp_path / "kr.json")
    assert checked.items >= 40
    assert [checked.malformed, checked.identical, checked.repeated, checked.leaking] == [[], [], [], []]
    assert [shortcut.name for shortcut in checked.shortcuts if shortcut.is_significant] == []


def test_equal_numbers_in_other_spellings_are_never_two_choices_and_give_the_answer_away():
    text = "He had it all. The {} of them paid {} for a house. The rest of them paid {} for a farm."
    for first, second in (("1,000", "1,000"), ("100.0", "100.0")):
        blanks = list(blanks_of(AnnotatedDocument(0, text.format("ten", first, second))))
        assert pair_up(blanks, seed=0) == []
    spelled = AnnotatedDocument(0, "He had $1000 in all. The ten of them paid 1,000 for a house.")
    assert list(blanks_of(spelled)) == []


def test_both_questions_of_a_pair_exchange_the_entities():
    for one, other in paired():
        first, second = both_questions((one, other))
        assert (first.sentence_true, second.sentence_true) == (one.sentence, other.sentence)
        assert first.sentence_false == one.filled(other.entity.text)


def test_the_seed_decides_and_nothing_else():
    assert built(seed=1) == built(seed=1)
    assert built(seed=1) != built(seed=2)


def test_an_entity_whose_word_stands_in_the_context_is_not_asked_for():
    text = "Anna Lee sang in the old hall. The people of the town liked Kurt Lee very much."
    assert list(blanks_of(AnnotatedDocument(0, text))) == []


@pytest.mark.parametrize(
    "place", ["{} went on. It was seen by Anna and Bert one day.", "It ran. It was {} by Anna now."]
)
def test_a_piece_that_is_no_sentence_gives_no_question_and_is_not_searched(place, monkeypatch):
    read = []
    words_of = cloze.words_of
    monkeypatch.setattr(cloze, "words_of", lambda text: read.append(len(text)) or words_of(text))
    assert list(blanks_of(AnnotatedDocument(0, place.format("seen"))))
    read.clear()
    assert list(blanks_of(AnnotatedDocument(0, place.format("A+" * 100_000)))) == []
    assert sum(read) < 1_000


def test_no_entity_is_asked_for_more_than_four_times():
    counts = Counter(blank.entity.text for pair in paired(num_questions=90) for blank in pair)
    assert max(counts.values()) <= 4


def test_sentences_of_unequal_length_by_the_given_measure_are_not_paired():
    assert built(length=lambda sentence: sentence.count("a")) != []
    assert all(q.sentence_true.count("a") == q.sentence_false.count("a") for q in built(length=lambda s: s.count("a")))
    assert built(length=hash) == []


def test_few_documents_are_held_of_a_large_corpus():
    few = gather(documents(60), num_questions=1, seed=0)
    assert 40 <= len(few) < 50
    assert {blank.location for blank in few} != set(range(len({blank.location for blank in few})))


def test_the_place_of_a_document_is_its_line_as_the_laboratory_counts_or_its_number_in_several_files(tmp_path):
    (tmp_path / "a.txt").write_text("\nOne.\n\n\nTwo.\n")
    places = [d.location for d in read_corpus([str(tmp_path / "a.txt")], Layout())]
    assert places == [record.line for record in read_records(tmp_path / "a.txt")] == [1, 4]
    (tmp_path / "b.txt").write_text("Three.\n\nFour.\n")
    assert [d.location for d in read_corpus([str(tmp_path)], Layout())] == [0, 1, 2, 3]


def test_a_build_from_files_counts_what_it_found(tmp_path):
    found = build_cloze([str(write(tmp_path / "corpus.txt"))], Layout(), num_questions=10)
    assert len(found.questions) == 10
    assert found.counts["pairs"] == 5
    lines = (tmp_path / "corpus.txt").read_text().splitlines()
    assert all(question.sentence_true in sentences_of(lines[question.location]) for question in found.questions)


def test_a_corpus_without_entities_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("it ran and it ran and it ran.\n")
    with pytest.raises(InputError, match="0 entities were found"):
        build_cloze([str(tmp_path / "x.txt")], Layout(), num_questions=10)


def test_documents_without_a_blank_are_not_held_and_change_no_sample(monkeypatch):
    held, smallest = [], cloze._smallest
    monkeypatch.setattr(cloze, "_smallest", lambda pool, most: held.append(len(pool)) or smallest(pool, most))
    corpus = list(documents(60))
    without = [AnnotatedDocument(1000 + number, "nothing to ask about") for number in range(500)]
    sample = gather([*corpus, *without], num_questions=1, seed=0)
    assert max(held) <= len(corpus)
    assert sample == gather(corpus, num_questions=1, seed=0)


def test_a_layout_that_does_nothing_for_the_corpus_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "Ann saw a red cat."}\n')
    with pytest.raises(ConfigError, match=r"layout.document_separator: 'file' is for plain text"):
        list(read_corpus([str(tmp_path / "x.jsonl")], Layout(document_separator="file")))
