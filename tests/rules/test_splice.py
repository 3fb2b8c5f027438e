"""Edits in texts of five families of tokenizers: unedited text stays."""

import random
import re
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.rules import (
    Edit,
    TextTokenizer,
    TokenizedText,
    TokenSpan,
    apply_edits,
    locate_token,
    merge_spans,
    read_token_texts,
    splice,
)
from tests.rules.families import DOCUMENTS, FAMILIES, LOSSLESS, document, tokenizer_of

# Reasons that lie in the position or the candidate, not in the splice.
NOT_CLEAN = {"special", "fragment", "shared", "candidate_fragment", "same_text"}
texts = st.builds(document, st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0, 0, 0.3])) | st.text(
    st.characters(codec="utf-8"), max_size=40
)


@cache
def tools(family):
    tokenizer = tokenizer_of(family)
    token_texts = read_token_texts(tokenizer)
    return TextTokenizer(tokenizer), token_texts, np.flatnonzero(token_texts.allowed(len(tokenizer))).tolist()


def edited(family, text, seed, share, protected=()):
    """`text` with a share of its tokens replaced at random, some deleted."""
    tokenize, token_texts, candidates = tools(family)
    (tokens,) = tokenize([text])
    source = random.Random(seed)
    positions = [i for i in range(len(tokens.ids)) if source.random() < share]
    changes = {i: None if source.random() < 0.2 else source.choice(candidates) for i in positions}
    return tokens, changes, splice(text, tokens, changes, token_texts, protected=protected)


def untouched(text, spliced):
    """The characters that no applied edit covers, before and after, cut at the edits."""
    before, after, done, shift = [], [], 0, 0
    for edit in spliced.applied:
        before.append(text[done : edit.start])
        after.append(spliced.text[done + shift : edit.start + shift])
        done, shift = edit.end, shift + len(edit.new) - (edit.end - edit.start)
    return [*before, text[done:]], [*after, spliced.text[done + shift :]]


@pytest.mark.parametrize("family", FAMILIES)
@given(text=texts, seed=st.integers(0, 10**6), share=st.sampled_from([0.01, 0.1, 0.5, 1]))
def test_untouched_characters_are_those_of_the_original(family, text, seed, share):
    tokens, changes, spliced = edited(family, text, seed, share)
    before, after = untouched(text, spliced)
    assert before == after
    assert {edit.position for edit in spliced.applied} | spliced.refused.keys() == changes.keys()
    assert len(spliced.applied) + len(spliced.refused) == len(changes)
    for edit in spliced.applied:
        assert text[edit.start : edit.end] == edit.old != edit.new
        assert tokens.ids[edit.position] == edit.old_id
    assert spliced.text.count("\ufffd") == text.count("\ufffd") - sum(e.old.count("\ufffd") for e in spliced.applied)


@pytest.mark.parametrize("family", FAMILIES)
@given(text=texts, seed=st.integers(0, 10**6))
def test_no_character_of_another_token_is_touched(family, text, seed):
    tokens, _, spliced = edited(family, text, seed, 0.3)
    for edit in spliced.applied:
        others = np.delete(tokens.offsets, edit.position, 0)
        assert not ((others[:, 0] < edit.end) & (others[:, 1] > edit.start) & (others[:, 0] < others[:, 1])).any()
        assert edit.end - edit.start <= np.ptp(tokens.offsets[edit.position]) + 1


@pytest.mark.parametrize("family", FAMILIES)
@given(text=texts)
def test_an_unedited_document_is_returned_as_it_is(family, text):
    tokenize, token_texts, _ = tools(family)
    (tokens,) = tokenize([text])
    spliced = splice(text, tokens, {}, token_texts, guard="python")
    assert spliced.text is text
    assert (spliced.applied, spliced.refused) == ((), {})


@pytest.mark.parametrize("rare", [0, 0.1])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("family", FAMILIES)
def test_nearly_every_edit_at_a_clean_position_is_applied(family, share, rare):
    applied = clean = 0
    for seed in range(60):
        _, _, spliced = edited(family, document(seed + 1000, rare=rare), seed, share)
        applied += len(spliced.applied)
        clean += len(spliced.applied) + sum(reason not in NOT_CLEAN for reason in spliced.refused.values())
    assert clean > (20 if share == 0.01 else 500)
    assert applied >= 0.99 * clean


@pytest.mark.parametrize("family", LOSSLESS)
@given(text=texts, seed=st.integers(0, 10**6))
def test_where_decoding_loses_nothing_the_splice_is_what_decoding_gives(family, text, seed):
    tokenizer = tokenizer_of(family)
    tokens, _, spliced = edited(family, text, seed, 0.2)
    new_ids = {edit.position: edit.new_id for edit in spliced.applied}
    edited_ids = [new_ids.get(position, token) for position, token in enumerate(tokens.ids.tolist())]
    decoded = [
        tokenizer.backend_tokenizer.decode([token for token in ids if token is not None], skip_special_tokens=False)
        for ids in (tokens.ids.tolist(), edited_ids)
    ]
    # The start is left out: there a tokenizer of the spm family adds and takes away a space.
    if decoded[0] == text and not spliced.refused and not any(edit.position == 0 for edit in spliced.applied):
        assert decoded[1] == spliced.text


@pytest.mark.parametrize("family", FAMILIES)
def test_protected_characters_stay(family):
    text = DOCUMENTS[3]
    protected = [(5, 9), (30, 80)]
    _, _, spliced = edited(family, text, 0, 1, protected)
    assert spliced.reasons["protected"] > 5
    assert all(edit.end <= a or edit.start >= b for edit in spliced.applied for a, b in protected)
    assert text[30:80] in spliced.text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_protected_number_does_not_become_another(family):
    """A comma, a space or a word beside a number may not become a digit or a letter that joins it."""
    text = "It was July 1, 1919, and 3 men lifted 11 - 13 lb each by 9 o'clock, 5, or 10 percent, in room 42b."
    numbers = [match.span() for match in re.finditer(r"\d+", text)]
    pattern = re.compile(r"(?<!\w)(?<!\w[.,:/'-])\d+(?!\w|[.,:/'-]\w)")
    kept = {match[0] for match in pattern.finditer(text)}
    for seed in range(60):
        _, _, spliced = edited(family, text, seed, 0.5, numbers)
        assert kept <= set(pattern.findall(spliced.text)), spliced.text


@pytest.mark.parametrize("family", FAMILIES)
def test_special_and_added_tokens_and_parts_of_characters_stay(family):
    tokenize, token_texts, candidates = tools(family)
    text = "the girl <s> said [added] 𝕏🧑🏽 and went <|im_start|> home"
    (tokens,) = tokenize([text])
    spliced = splice(text, tokens, dict.fromkeys(range(len(tokens.ids)), candidates[-1]), token_texts)
    assert spliced.reasons["special"] >= 3
    for part in ("<s>", "[added]", "𝕏🧑🏽", "<|im_start|>"):
        assert part in spliced.text


def test_a_candidate_without_a_text_is_refused():
    tokenize, token_texts, _ = tools("gpt2")
    (tokens,) = tokenize(["the girl"])
    fragment = token_texts.texts.index(None, 10)
    spliced = splice("the girl", tokens, {0: fragment, 1: 10**6}, token_texts)
    assert spliced.refused == {0: "candidate_fragment", 1: "candidate_fragment"}


@pytest.mark.parametrize(
    ("family", "text", "at", "new", "result"),
    [
        # A word of WordPiece brings its space along, unless it is there already or there is nothing before it.
        ("wordpiece", "the girl was sad", "girl", "boy", "the boy was sad"),
        ("wordpiece", "The girl was sad", "girl", "##ing", "Theing was sad"),
        ("wordpiece", "The girl was sad", "The", "a", "a girl was sad"),
        ("wordpiece", "(girl)\ngirl", "girl", "boy", "( boy)\ngirl"),
        ("wordpiece", "a\ngirl", "girl", "boy", "a\nboy"),
        ("wordpiece", "a   girl", "girl", "boy", "a   boy"),
        ("gpt2-trimmed", "the girl was sad", "girl", "Ġboy", "the boy was sad"),
        ("gpt2-trimmed", "the girl was sad", "girl", "ing", "theing was sad"),
        ("spm", "the girl was sad", "girl", "▁boy", "the boy was sad"),
        ("spm", "girl was sad", "girl", "▁boy", "boy was sad"),
        ("unigram", "a   girl", "girl", "▁house", "a   house"),
    ],
)
def test_white_space_around_an_edited_word_is_what_the_new_token_says(family, text, at, new, result):
    tokenizer = tokenizer_of(family)
    tokens = TextTokenizer(tokenizer)([text])[0]
    (position,) = [i for i, (a, b) in enumerate(tokens.offsets) if text[a:b].strip() == at][:1]
    token = tokenizer.convert_tokens_to_ids(new)
    assert token != tokenizer.unk_token_id
    assert splice(text, tokens, {position: token}, read_token_texts(tokenizer)).text == result


@given(st.data())
def test_wrong_offsets_never_corrupt_a_text(data):
    tokenize, token_texts, candidates = tools("gpt2")
    text = document(data.draw(st.integers(0, 99)), 10)
    ids = tokenize([text])[0].ids
    bounds = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    offsets = np.array(data.draw(st.lists(bounds, min_size=len(ids), max_size=len(ids)))).reshape(-1, 2)
    spliced = splice(text, TokenizedText(ids, offsets), dict.fromkeys(range(len(ids)), candidates[0]), token_texts)
    before, after = untouched(text, spliced)
    assert before == after
    assert all(edit.old.strip() == token_texts[edit.old_id].strip() for edit in spliced.applied)


def test_a_token_whose_offsets_show_other_text_is_refused():
    tokenize, token_texts, _ = tools("gpt2")
    tokens = tokenize(["the girl"])[0]
    shifted = TokenizedText(tokens.ids, tokens.offsets + np.array([[0, 0], [1, 0]]))
    assert locate_token("the girl", tokens, 1, token_texts).start == 3
    # The space is missing from the offsets but is the token's own.
    assert locate_token("the girl", shifted, 1, token_texts).start == 3
    assert locate_token("the bird", tokens, 1, token_texts) == "misaligned"


def test_a_space_that_another_token_owns_is_not_taken():
    tokenize, token_texts, _ = tools("gpt2")
    (space,), (girl,) = (tokens.ids for tokens in tokenize([" ", " girl"]))
    tokens = TokenizedText(np.array([space, girl]), np.array([[3, 4], [4, 8]]))
    assert locate_token("the girl", tokens, 1, token_texts) == TokenSpan(4, 8, drop_space=True)


def test_overlapping_edits_are_an_internal_error():
    edit = Edit(0, 0, 3, "abc", "x", 1, 2)
    with pytest.raises(AssertionError, match="overlaps"):
        apply_edits("abcdef", [edit, Edit(1, 2, 4, "cd", "y", 1, 2)])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_merged_spans_hold_the_same_characters_apart_and_in_order(spans):
    merged = merge_spans(spans)
    assert {i for a, b in merged for i in range(a, b)} == {i for a, b in spans for i in range(a, b)}
    assert all(one[1] < two[0] for one, two in pairwise(merged))


@pytest.mark.parametrize("name", ["tinystories", "wikitext2_valid", "moby_dick", "tinyshakespeare"])
def test_real_text_and_a_real_tokenizer(name, real_data):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_data / "priors" / "stories260k")
    text = (real_data / "text" / f"{name}.txt").read_text(encoding="utf-8")[:100_000]
    token_texts = read_token_texts(tokenizer)
    (tokens,) = TextTokenizer(tokenizer)([text])
    source = random.Random(0)
    candidates = np.flatnonzero(token_texts.allowed(len(tokenizer))).tolist()
    changes = {i: source.choice(candidates) for i in range(len(tokens.ids)) if source.random() < 0.1}
    spliced = splice(text, tokens, changes, token_texts)
    before, after = untouched(text, spliced)
    assert before == after
    assert spliced.reasons.keys() <= NOT_CLEAN
    assert len(spliced.applied) > 2000
