import pytest

from tailkeep.kr_test.corpus import entities_of, sentences_of, words_of


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It ran. Then it sat! Why?", ["It ran.", "Then it sat!", "Why?"]),
        ("Mr. Smith met J. Doe. He left.", ["Mr. Smith met J. Doe.", "He left."]),
        ("It sold 2.5 copies. 12 more came.", ["It sold 2.5 copies.", "12 more came."]),
        ("It ended . He said \" no . \" Then he left .", ["It ended .", "He said \" no . \"", "Then he left ."]),
        ("a title\nIt ran. ", ["a title", "It ran."]),
        (" ", []),
    ],
)  # fmt: skip
def test_a_text_is_cut_where_its_sentences_end(text, sentences):
    assert sentences_of(text) == sentences


def kinds(sentence):
    return [(entity.kind, entity.text, entity.before) for entity in entities_of(sentence)]


def test_entities_have_a_kind_and_the_word_before_them():
    found = kinds("In March 1998 she sold 1,200 of Anna Lee's songs to NASA on Friday in 12 @.@ 5 days .")
    assert found == [
        ("month", "March", "in"),
        ("year", "1998", "march"),
        ("number", "1,200", "sold"),
        ("name", "Anna Lee", "of"),
        ("acronym", "NASA", "to"),
        ("weekday", "Friday", "on"),
        ("number", "12 @.@ 5", "in"),
    ]


@pytest.mark.parametrize(
    "sentence", ["Anna sang.", '" Anna sang .', "the co @-@ Anchor", "half-Dutch", "2001 / 02", "x. Anna"]
)
def test_the_first_word_and_parts_of_compounds_are_no_entities(sentence):
    assert kinds(sentence) == []


def test_entities_of_one_shape_have_equal_words_characters_and_digits():
    (small, large), (other,) = entities_of("it sold 1,200 or sold 12.50"), entities_of("they sold 9,871")
    assert small.shape == other.shape != large.shape


def test_a_short_negation_is_a_word():
    assert words_of("She didn't, or did n't, or didn 't; Sega's") == [
        *["she", "did", "n't", "or", "did", "n't", "or", "did", "n't"], "sega's",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", ["e.g. A", "Dr. ", "a", "A. ", "x.", '"('])
def test_the_sentences_of_a_hostile_text_are_found_in_one_pass(unit):
    # A search back to the start of the sentence at every gap would take hours for a million characters.
    assert sentences_of(unit * (1_000_000 // len(unit)))
