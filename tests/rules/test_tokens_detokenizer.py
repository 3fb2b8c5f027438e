"""Token ids decoded into a text with offsets."""

import numpy as np
import pytest

from tailkeep.rules import Detokenizer, TextTokenizer, locate_token, read_token_texts
from tests.rules.families import FAMILIES, LOSSLESS, tokenizer_of

TEXT = " Ann saw naïve 数 cats 😀 at 10:30."


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_with_a_text_has_its_span_and_no_other_has_one(family):
    tokenizer = tokenizer_of(family)
    token_texts = read_token_texts(tokenizer)
    (tokens,) = TextTokenizer(tokenizer)([TEXT])
    ((text, tokenized),) = Detokenizer(tokenizer, token_texts)([tokens.ids])
    assert np.array_equal(tokenized.ids, tokens.ids)
    for position, token in enumerate(tokens.ids.tolist()):
        span = locate_token(text, tokenized, position, token_texts)
        if token_texts[token] is None:
            assert span in ("special", "fragment")
        else:
            assert text[span.start : span.end] == token_texts[token]


@pytest.mark.parametrize("family", LOSSLESS)
def test_the_ids_of_a_text_are_decoded_to_it(family):
    tokenizer = tokenizer_of(family)
    detokenizer = Detokenizer(tokenizer, read_token_texts(tokenizer))
    ids = np.array(tokenizer(TEXT, add_special_tokens=False)["input_ids"], np.int32)
    ((text, _),) = detokenizer([ids])
    assert text.strip() == TEXT.strip()


def test_a_special_token_appears_by_name_with_empty_offsets():
    tokenizer = tokenizer_of(FAMILIES[0])
    detokenizer = Detokenizer(tokenizer, read_token_texts(tokenizer))
    (special, *_) = tokenizer.all_special_ids
    letters = tokenizer("abc", add_special_tokens=False)["input_ids"]
    ((text, tokens),) = detokenizer([np.array([*letters, special, *letters], np.int32)])
    assert tokenizer.convert_ids_to_tokens(special) in text
    start, end = tokens.offsets[len(letters)]
    assert start == end


def test_no_document_and_an_empty_one_are_decoded_too():
    tokenizer = tokenizer_of(FAMILIES[0])
    detokenizer = Detokenizer(tokenizer, read_token_texts(tokenizer))
    assert detokenizer([]) == []
    ((text, tokens),) = detokenizer([np.zeros(0, np.int32)])
    assert (text, tokens.offsets.shape) == ("", (0, 2))
