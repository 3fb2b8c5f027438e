"""Texts tokenized with offsets."""

import pytest
from transformers import PreTrainedTokenizerFast

from tailkeep.errors import InputError
from tailkeep.rules import TextTokenizer
from tests.rules.families import DOCUMENTS, FAMILIES, document, tokenizer_of


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ids_are_those_of_the_tokenizer(family):
    tokenizer = tokenizer_of(family)
    texts = [*DOCUMENTS[:20], document(1, rare=0.5), "", " "]
    for text, tokens in zip(texts, TextTokenizer(tokenizer)(texts), strict=True):
        assert tokens.ids.tolist() == tokenizer(text)["input_ids"]
        assert tokens.offsets.shape == (len(tokens.ids), 2)


def test_offsets_hold_the_white_space_that_some_tokenizers_leave_out():
    untrimmed, trimmed = (TextTokenizer(tokenizer_of(name))(DOCUMENTS[:20]) for name in ("gpt2", "gpt2-trimmed"))
    assert all((a.offsets == b.offsets).all() for a, b in zip(untrimmed, trimmed, strict=True))


def test_what_a_call_left_behind_in_the_tokenizer_does_not_cut_a_text(tmp_path):
    tokenizer_of("gpt2").save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    whole = TextTokenizer(tokenizer)(["once upon a time there was a girl"])[0]
    tokenizer("once upon a time", truncation=True, max_length=2)
    assert (TextTokenizer(tokenizer)(["once upon a time there was a girl"])[0].ids == whole.ids).all()


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(InputError, match="not a fast tokenizer"):
        TextTokenizer(object())
