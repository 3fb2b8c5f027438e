import math
from collections import Counter

import numpy as np
import pytest

from tailkeep.lab.causal_lm.measures import coverage_of, generated_words, words_of
from tailkeep.lab.causal_lm.tokens import TokenData


def test_words_are_runs_of_letters_and_digits():
    assert words_of(["Ann's cat, no. 7!", "été"]) == ["Ann", "s", "cat", "no", "7", "été"]


def generated(tokenizer, prompt, text):
    whole = tokenizer.encode_without_eos(prompt + text)
    prompt_length = len(tokenizer.encode_without_eos(prompt))
    return TokenData.from_documents([whole], tokenizer, prompts=[prompt_length])


def test_what_was_given_is_not_counted(tokenizer):
    assert generated_words(generated(tokenizer, "Ann saw", " a red cat")) == [["a", "red", "cat"]]


def test_a_word_that_the_prompt_began_is_left_out(tokenizer):
    whole = tokenizer.encode_without_eos("Ann saw a boat. It was")
    # Cut behind the first token of a word that has several.
    cut = next(n for n in range(2, len(whole)) if not tokenizer.decode(whole[n:]).startswith((" ", ".")))
    words = generated_words(TokenData.from_documents([whole], tokenizer, prompts=[cut]))
    assert set(words[0]) < {"Ann", "saw", "a", "boat", "It", "was"}


def test_a_sample_is_judged_by_the_words_that_the_real_text_has():
    real = Counter({"once": 1, "also": 1, "twice": 2, "often": 20})
    bands = {band.name: band for band in coverage_of(["often", "once", "foreign", "often"], real)}
    assert (bands["1"].covered, bands["2_3"].covered, bands["11_100"].covered) == (0.5, 0.0, 1.0)
    # Four words were written, so four are expected to be drawn: the foreign one counts.
    assert bands["1"].expected == pytest.approx(4 / 24)
    assert math.isnan(bands["4_10"].covered)


def test_of_more_words_than_the_real_text_has_the_first_ones_count():
    real = Counter({"a": 2, "b": 1})
    bands = {band.name: band.covered for band in coverage_of(["a", "a", "a", "b"], real)}
    assert (bands["1"], bands["2_3"]) == (0.0, 1.0)


def test_real_documents_cover_about_what_is_expected(stories):
    texts = [stories.tokenizer.decode(document) for document in stories.documents]
    real = Counter(words_of(texts))
    some = np.random.default_rng(0).permutation(texts)[:20]
    for band in coverage_of(words_of(some), real):
        assert math.isnan(band.covered) or abs(band.covered - band.expected) < 0.5
