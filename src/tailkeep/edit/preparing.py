"""Documents as rows of tokens for the prior; those that are token ids already are spelled as text.

Rule: all strings of a document make one text, prompts before what they prompt, so that every token is judged on the
whole document before it; which characters may be edited is known of each token.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.corpus import Part, Record
from tailkeep.rules import Speller, TextTokenizer, Tokens

BETWEEN = "\n"
"""What stands between two strings of a document; it is never edited and never written."""

# A group is read, scored and written together: enough for batches without much padding, few enough for any memory.
_CHARACTERS = 1 << 20
_PER_TOKEN = 4
_DOCUMENTS = 1 << 14


@dataclass(frozen=True)
class Piece:
    """An editable part, which begins at character `start` of the document's text, and the positions of its tokens."""

    part: Part
    start: int
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """A document with its tokens; `editable` (T,) tells which stand, whole, in an editable part."""

    record: Record
    tokens: Tokens
    pieces: tuple[Piece, ...]
    editable: NDArray[np.bool_]


def groups_of(records: Iterable[Record], tokenizer: TextTokenizer, speller: Speller) -> Iterator[list[Prepared]]:
    """Consecutive documents that are worked on together; how they are cut depends on the documents alone."""
    group: list[Record] = []
    characters = 0
    for record in records:
        group.append(record)
        characters += sum(len(part.text) + _PER_TOKEN * len(part.ids or ()) for part in record.parts)
        if characters >= _CHARACTERS or len(group) >= _DOCUMENTS:
            yield _prepare_any(group, tokenizer, speller)
            group, characters = [], 0
    if group:
        yield _prepare_any(group, tokenizer, speller)


def _prepare_any(records: list[Record], tokenizer: TextTokenizer, speller: Speller) -> list[Prepared]:
    return prepare_ids(records, speller) if records[0].tokens else prepare(records, tokenizer)


def prepare(records: list[Record], tokenizer: TextTokenizer) -> list[Prepared]:
    """Each of `records` with its tokens."""
    texts = [BETWEEN.join(part.text for part in record.parts) for record in records]
    return [_prepared(record, tokens) for record, tokens in zip(records, tokenizer(texts), strict=True)]


def prepare_ids(records: list[Record], speller: Speller) -> list[Prepared]:
    """Each of `records`, which hold one list of token ids, with these as its tokens."""
    found = zip(records, speller([np.array(record.parts[0].ids, np.int32) for record in records]), strict=True)
    return [
        _prepared(replace(record, parts=(replace(record.parts[0], text=text),)), tokens)
        for record, (text, tokens) in found
    ]


def _prepared(record: Record, tokens: Tokens) -> Prepared:
    starts, ends = tokens.offsets.reshape(-1, 2).T
    editable = np.zeros(len(tokens.ids), np.bool_)
    pieces = []
    start = 0
    for part in record.parts:
        if part.editable:
            inside = (starts >= start) & (ends <= start + len(part.text)) & (ends > starts)
            editable |= inside
            pieces.append(Piece(part, start, np.flatnonzero(inside)))
        start += len(part.text) + len(BETWEEN)
    return Prepared(record, tokens, tuple(pieces), editable)
