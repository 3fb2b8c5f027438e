import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, check_length, training_rows

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=30)


def documents_of(lengths):
    """Documents of the given lengths in which every token occurs once, so that nothing can be mistaken."""
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end, dtype=np.int32) for end, length in zip(ends, lengths, strict=True)]


WITHOUT_START = DocumentTokenizer(None, append_eos=False, start_token="none")


def tokens_of(lengths, tokenizer=WITHOUT_START, prompts=None):
    return TokenData.from_documents(documents_of(lengths), tokenizer, prompts=prompts)


def lists(arrays):
    return [array.tolist() for array in arrays]


def test_documents_lie_one_after_another():
    data = tokens_of([2, 3, 1], prompts=[1, 0, 1])
    assert (len(data), data.units) == (3, 6)
    assert data.ids.dtype == np.int32
    assert lists(data.documents) == [[0, 1], [2, 3, 4], [5]]
    assert lists(data.continuations) == [[1], [2, 3, 4], []]


def test_no_documents_are_data_too():
    data = TokenData.from_documents([], None)
    assert (len(data), data.units, data.documents) == (0, 0, [])
    assert len(tokens_of([2, 1]).concat(data)) == 2


def test_documents_can_be_taken_in_any_order_and_twice():
    taken = tokens_of([2, 3, 1], prompts=[1, 2, 0]).take(np.array([2, 0, 2]))
    assert lists(taken.documents) == [[5], [0, 1], [5]]
    assert taken.prompts.tolist() == [0, 1, 0]
    assert len(tokens_of([2]).take(np.arange(0))) == 0


def test_concatenation_keeps_order_and_prompts():
    joined = tokens_of([1, 2], prompts=[0, 1]).concat(tokens_of([3], prompts=[2]), tokens_of([1]))
    assert lists(joined.documents) == [[0], [1, 2], [0, 1, 2], [0]]
    assert joined.prompts.tolist() == [0, 1, 2, 0]


@given(lengths=LENGTHS, parts=st.integers(1, 8))
def test_a_split_loses_nothing_and_leaves_no_part_empty(lengths, parts):
    data = tokens_of(lengths)
    if parts > len(data):
        with pytest.raises(AssertionError, match="cannot be split into"):
            data.split(parts)
        return
    pieces = data.split(parts)
    assert len(pieces) == parts
    assert all(len(piece) for piece in pieces)
    assert lists(pieces[0].concat(*pieces[1:]).documents) == lists(data.documents)


@given(count=st.integers(1, 60), length=st.integers(1, 9), parts=st.integers(1, 8))
def test_documents_of_one_length_are_split_evenly(count, length, parts):
    if parts > count:
        return
    sizes = [piece.units for piece in tokens_of([length] * count).split(parts)]
    assert max(sizes) - min(sizes) <= 2 * length


@given(lengths=st.lists(st.integers(1, 5), min_size=40, max_size=80), parts=st.integers(2, 6))
def test_no_part_is_further_from_its_share_than_a_document(lengths, parts):
    data = tokens_of(lengths)
    for piece in data.split(parts):
        assert abs(piece.units - data.units / parts) <= max(lengths)


def test_other_tokens_take_over_the_boundaries():
    data = tokens_of([2, 3], prompts=[1, 1])
    other = data.with_ids(data.ids + 10)
    assert lists(other.documents) == [[10, 11], [12, 13, 14]]
    assert other.prompts.tolist() == [0, 0]


def test_what_is_saved_is_read_back(stories, tmp_path):
    data = TokenData.from_documents(stories.documents, stories.tokenizer, prompts=[3] * len(stories))
    data.save(tmp_path)
    read = stories.read(tmp_path)
    for name in ("ids", "lengths", "prompts"):
        one, other = getattr(data, name), getattr(read, name)
        assert one.dtype == other.dtype
        assert (one == other).all()


def test_people_read_the_prompt_and_what_was_written_behind_it(tokenizer, tmp_path):
    document = tokenizer.encode("Ann saw a cat.\nAnd 😀")
    given_tokens = len(tokenizer.encode_without_eos("Ann saw"))
    TokenData.from_documents([document, document], tokenizer, prompts=[given_tokens, 0]).save(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "text.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"prompt": "Ann saw", "text": " a cat.\nAnd 😀"},
        {"prompt": "", "text": "Ann saw a cat.\nAnd 😀"},
    ]


def test_a_character_that_the_prompt_cuts_in_two_is_shown_once(tokenizer, tmp_path):
    document = tokenizer.encode("I 😀 you")
    TokenData.from_documents([document] * len(document), tokenizer, prompts=range(len(document))).save(tmp_path)
    for line in map(json.loads, (tmp_path / "text.jsonl").read_text(encoding="utf-8").splitlines()):
        assert line["prompt"] + line["text"] == "I 😀 you"


def test_a_pickle_in_place_of_the_arrays_is_not_opened(stories, tmp_path):
    stories.save(tmp_path)
    np.save(tmp_path / "ids.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        stories.read(tmp_path)


def predicted(rows):
    return sorted(token for row in rows for token in row[1:].tolist())


@given(lengths=LENGTHS, block=st.integers(2, 15))
def test_each_token_but_a_documents_first_is_predicted_once(lengths, block):
    documents = documents_of(lengths)
    rows = training_rows(tokens_of(lengths), block=block, joined=False)
    assert predicted(rows) == sorted(token for document in documents for token in document[1:].tolist())
    owner = {token: number for number, document in enumerate(documents) for token in document.tolist()}
    for row in rows:
        assert 2 <= len(row) <= block + 1
        assert len({owner[token] for token in row.tolist()}) == 1
        assert (np.diff(row) == 1).all()


@given(lengths=LENGTHS, block=st.integers(2, 15))
def test_joined_documents_are_one_text(lengths, block):
    rows = training_rows(tokens_of(lengths), block=block, joined=True)
    assert predicted(rows) == list(range(1, sum(lengths)))
    assert all(len(row) == block + 1 for row in rows[:-1])
    assert all(one[-1] == other[0] for one, other in pairwise(rows))


def test_a_text_shorter_than_a_block_is_refused_with_both_numbers():
    check_length(tokens_of([9]), block=8, joined=True, what="real")
    with pytest.raises(InputError, match=r"the real text has 8 tokens in 1 .* one block of 8\. Give more"):
        check_length(tokens_of([8]), block=8, joined=True, what="real")


def test_a_text_without_anything_to_predict_is_refused():
    check_length(tokens_of([1] * 9), block=2, joined=True, what="real")
    with pytest.raises(InputError, match=r"9 tokens in 9 document\(s\)"):
        check_length(tokens_of([1] * 9), block=2, joined=False, what="real")
