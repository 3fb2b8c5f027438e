"""Words and n-grams against plain Python."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.hashing import (
    count_distinct_per_document,
    count_documents_with,
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
        ("na\u00efve \u00c9t\u00e9", ["na\u00efve", "\u00c9t\u00e9"]),
        ("\u4f60\u597d, x", ["\u4f60", "\u597d", ",", "x"]),
        ("a\u00a0b\u2014c \u201cd\u201d", ["a", "b", "\u2014", "c", "\u201c", "d", "\u201d"]),
        ("", []),
    ],
)
def test_a_word_is_a_run_of_letters_a_run_of_marks_or_a_sign(text, words):
    words_found = split_words([text.encode()])
    assert [raw.decode() for raw in words_found.texts(np.arange(len(words_found.hashes)))] == words


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
