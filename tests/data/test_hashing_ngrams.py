"""Words and n-grams against plain Python."""

import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.hashing import (
    count_distinct_per_document,
    count_documents_with,
    first_words,
    group_equal_grams,
    ngrams_of,
    split_words,
)

texts = st.lists(st.text(alphabet="ab c.\né\u3042\u2014\u00a0", max_size=30), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann saw a cat.", ["ann", "saw", "a", "cat", "."]),
        ("it's  U.S.\tmade", ["it", "'", "s", "u", ".", "s", ".", "made"]),
        ("na\u00efve \u00c9t\u00e9", ["na\u00efve", "\u00e9t\u00e9"]),
        ("\u4f60\u597d, x", ["\u4f60", "\u597d", ",", "x"]),
        ("a\u00a0b\u2014c \u201cd\u201d", ["a", "b", "\u2014", "c", "\u201c", "d", "\u201d"]),
        ("", []),
        (
            "Stra\u00dfe \u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3",
            ["strasse", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3"],
        ),
        ("\u041c\u0418\u0420 \u043c\u0438\u0440", ["\u043c\u0438\u0440"] * 2),
        ("e\u0301t \u00c9T E\u0301T", ["\u00e9t"] * 3),
        (
            "\u0645\u0631\u062d\u0628\u0627\u060c \u062d\u0627\u0644\u061f",
            ["\u0645\u0631\u062d\u0628\u0627", "\u060c", "\u062d\u0627\u0644", "\u061f"],
        ),
        ("\u0930\u093e\u092e\u0964 \u0915", ["\u0930\u093e\u092e", "\u0964", "\u0915"]),
        ("\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a a", ["\u0e14\u0e35", "\u0e04", "\u0e23\u0e31", "\u0e1a", "a"]),
        ("\u30ab\u30bf \uac00\ub098", ["\u30ab", "\u30bf", "\uac00\ub098"]),
        ("\u0645\u06cc\u200c\u062e\u0648 a\u200bb \ufeffc", ["\u0645\u06cc\u200c\u062e\u0648", "a", "b", "c"]),
        ("12 \u0663\u0664 1\u00bd x\u00b2", ["12", "\u0663\u0664", "1\u00bd", "x\u00b2"]),
        ("\U0001f600\U0001f600 ok \u2764\ufe0f", ["\U0001f600\U0001f600", "ok", "\u2764\ufe0f"]),
        ("\U00010400\U00010428", ["\U00010428\U00010428"]),
    ],
)
def test_a_word_is_a_run_of_letters_a_run_of_marks_or_a_sign(text, words):
    assert spelled(split_words([text.encode()])) == words


def spelled(words):
    return [raw.decode() for raw in words.texts(np.arange(len(words.hashes)))]


SINGLE = ("THAI", "LAO", "MYANMAR", "KHMER", "HIRAGANA", "KATAKANA", "BOPOMOFO", "CJK UNIFIED", "CJK COMPATIBILITY I")
MIXED = (
    "aB_9.,- \n\u00e9\u00c9\u0301\u00a0\u00ab\u00df\u0130\u03a3\u0416\u060c\u0645\u064e\u0e01\u0e31\u0e51\u0e2f"
    "\u1100\u1161\u3042\u3099\u4f60\u3002\u20ac\U0001f600\U00020000"
)


def plain_words(text):
    """The words of `text`, character by character."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    words, before = [], ""
    for character in text:
        category = unicodedata.category(character)
        name = unicodedata.name(character, "").removeprefix("COMBINING ")
        is_single = name.startswith(SINGLE) and category[0] in "LM"
        if category[0] == "Z" or category == "Cc":
            kind = ""
        elif category[0] in "PS" and category != "Pc":
            kind = "mark"
        else:
            kind = "single" if is_single else "letter"
        if kind and kind == before and not (is_single and category[0] == "L"):
            words[-1] += character
        elif kind:
            words.append(character)
        before = kind
    return words


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet=MIXED, max_size=20), min_size=1, max_size=4))
def test_words_are_those_that_plain_python_finds(some):
    words = split_words([text.encode() for text in some])
    expected = [plain_words(text) for text in some]
    assert spelled(words) == [word for text in expected for word in text]
    assert words.counts.tolist() == [len(text) for text in expected]


@given(st.text(max_size=30))
def test_words_do_not_depend_on_case_or_on_how_letters_are_composed(text):
    text = text.encode("utf-8", "ignore").decode()
    words = split_words([text.encode()]).hashes.tolist()
    assert split_words([unicodedata.normalize("NFD", text).encode()]).hashes.tolist() == words
    assert split_words([text.casefold().encode()]).hashes.tolist() == words


def test_a_word_of_any_script_has_one_hash_however_it_is_spelled_and_whatever_stands_beside_it():
    """Every sign that NFC joins to what stands before it, also without a combining class."""
    joining = set()
    for code in range(0x3_0000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and unicodedata.normalize("NFC", chr(code)) == chr(code):
            joining.add((int(parts[0], 16), int(parts[1], 16)))
    assert len(joining) > 900
    for first, second in sorted(joining):
        word = f"x{chr(first)}{chr(second)}y"
        whole = unicodedata.normalize("NFC", word)
        alone, composed = (split_words([text.encode()]).hashes.tolist() for text in (word, whole))
        assert alone == composed, f"{first:04x} {second:04x}"
        assert split_words([f"É {word}".encode()]).hashes.tolist()[1:] == alone, f"{first:04x} {second:04x}"


def test_equal_words_have_equal_hashes_wherever_they_stand_and_different_ones_do_not():
    types = [f"w{number}" for number in range(5000)]
    words_found = split_words([" ".join(types).encode(), " ".join(reversed(types)).encode()])
    assert len(set(words_found.hashes.tolist())) == 5000
    assert words_found.hashes[:5000].tolist() == words_found.hashes[5000:].tolist()[::-1]


@settings(max_examples=60, deadline=None)
@given(texts)
def test_grams_are_those_that_plain_python_counts(some):
    words = split_words([text.encode() for text in some])
    spelled = words.texts(np.arange(len(words.hashes)))
    for length, grams in enumerate(ngrams_of(words, 3), 1):
        expected = Counter(
            (document, *spelled[first : first + length])
            for first, document in enumerate(words.documents.tolist())
            if words.documents[first : first + length].tolist() == [document] * length
        )
        equal = group_equal_grams(grams)
        totals = Counter({})
        for (_, *gram), count in expected.items():
            totals[tuple(gram)] += count
        assert sorted(equal.counts.tolist()) == sorted(totals.values())
        assert count_documents_with(grams, equal).sum() == len(expected)
        per_document = Counter(document for document, *_ in expected)
        assert count_distinct_per_document(grams, len(some)).tolist() == [per_document[n] for n in range(len(some))]


@pytest.mark.parametrize(
    ("text", "count", "first"),
    [
        (" The Straße, then.", 3, "The Straße,"),
        ("Cafe\u0301 NOIR now", 2, "Cafe\u0301 NOIR"),
        ("one two", 9, "one two"),
        ("one  two ", 2, "one  two"),
        (" \n", 1, ""),
        ("", 1, ""),
    ],
)
def test_the_first_words_of_a_text_are_as_it_spells_them(text, count, first):
    assert first_words(text, count) == first
