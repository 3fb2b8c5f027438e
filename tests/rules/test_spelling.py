"""Token ids as a text in which each token has its place."""

import numpy as np
import pytest

from tailkeep.rules import Detokenizer, TextTokenizer, locate_token, read_token_texts
from tests.rules.families import FAMILIES, LOSSLESS, tokenizer_of

TEXT = " Ann saw naïve 数 cats 😀 at 10:30."


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_with_a_surface_has_its_place_and_no_other_has_one(family):
    tokenizer = tokenizer_of(family)
    surfaces = read_token_texts(tokenizer)
    (tokens,) = TextTokenizer(tokenizer)([TEXT])
    ((text, spelled),) = Detokenizer(tokenizer, surfaces)([tokens.ids])
    assert np.array_equal(spelled.ids, tokens.ids)
    for position, token in enumerate(tokens.ids.tolist()):
        place = locate_token(text, spelled, position, surfaces)
        if surfaces[token] is None:
            assert place in ("special", "fragment")
        else:
            assert text[place.start : place.end] == surfaces[token]


@pytest.mark.parametrize("family", LOSSLESS)
def test_what_was_a_text_is_spelled_as_it(family):
    tokenizer = tokenizer_of(family)
    speller = Detokenizer(tokenizer, read_token_texts(tokenizer))
    ids = np.array(tokenizer(TEXT, add_special_tokens=False)["input_ids"], np.int32)
    ((text, _),) = speller([ids])
    assert text.strip() == TEXT.strip()


def test_a_special_token_is_written_and_has_no_characters_of_its_own():
    tokenizer = tokenizer_of(FAMILIES[0])
    speller = Detokenizer(tokenizer, read_token_texts(tokenizer))
    (special, *_) = tokenizer.all_special_ids
    letters = tokenizer("abc", add_special_tokens=False)["input_ids"]
    ((text, tokens),) = speller([np.array([*letters, special, *letters], np.int32)])
    assert tokenizer.convert_ids_to_tokens(special) in text
    start, end = tokens.offsets[len(letters)]
    assert start == end


def test_no_document_and_an_empty_one_are_spelled_too():
    tokenizer = tokenizer_of(FAMILIES[0])
    speller = Detokenizer(tokenizer, read_token_texts(tokenizer))
    assert speller([]) == []
    ((text, tokens),) = speller([np.zeros(0, np.int32)])
    assert (text, tokens.offsets.shape) == ("", (0, 2))
