import pytest

from tailkeep.kr_test.corpus import entities_of, one_spelling, sentences_of, words_of


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


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1,000", "1000"),
        ("$1000", "1000"),
        ("1000.00", "1000"),
        ("1 @,@ 000", "1000"),
        ("€ 1,234,567.50", "1234567.5"),
        ("0,5 or 00.50", "0.5 or 0.5"),
        ("1.", "1."),
        ("on 12.5.2020 or 1,00,000", "on 12.5.2020 or 1,00,000"),
        ("B1,000 and 7th", "B1,000 and 7th"),
    ],
)
def test_equal_numbers_have_one_spelling(text, plain):
    assert one_spelling(text) == plain
    assert one_spelling(plain) == plain


class CountingText(str):
    """A text that counts the characters of the pieces that are cut out of it."""

    __slots__ = ("characters",)

    def __getitem__(self, key):
        piece = super().__getitem__(key)
        self.characters = getattr(self, "characters", 0) + len(piece)
        return piece


def characters_read(function, text):
    counting = CountingText(text)
    for _ in function(counting):
        pass
    return getattr(counting, "characters", 0)


@pytest.mark.parametrize("unit", ["e.g. A", "Dr. ", "A. ", "It ran. ", "1 ", "Aa, ", "A+", "User: "])
@pytest.mark.parametrize("function", [sentences_of, entities_of])
def test_twice_as_much_hostile_text_is_twice_as_much_to_read(function, unit):
    text = f"It ran. {unit * 2_000} Anna"
    single, double = (characters_read(function, text + more) for more in ("", text))
    assert single <= 100 * len(text)
    assert double <= 2.1 * single + 1_000


@pytest.mark.parametrize("unit", ["e.g. A", "Dr. ", "a", "A. ", "x.", '"(', "A+", "1 "])
def test_the_patterns_read_a_hostile_text_once(unit):
    # A pattern that went back over it at every gap or entity would take an hour.
    text = "It " + unit * (300_000 // len(unit))
    assert sentences_of(text)
    assert all(entity.start < len(text) for entity in entities_of(text))
