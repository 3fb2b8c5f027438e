"""The text of each token, the characters at which it stands in a document, and token ids as text.

Rule: a token has a text only if it is complete: special and added tokens, bytes and other parts of characters have
none and are never edited. Offsets are verified: a span is used only if it reads as the token's text.
"""

import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.runs import hash_tree

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# A call with `truncation=` or `padding=` leaves these behind in a tokenizer. They do not change what an id means.
_STATE = ("truncation", "padding")


@dataclass(frozen=True)
class TokenTexts:
    """The text of each id in the middle of a document (None if it has none), the special and added ids, and a hash."""

    texts: tuple[str | None, ...]
    special: frozenset[int]
    fingerprint: str

    def __getitem__(self, token: int) -> str | None:
        return self.texts[token] if token < len(self.texts) else None

    def allowed(self, size: int, *, without: str = "") -> NDArray[np.bool_]:
        """(size,) the mask of ids that may be sampled: those with a text that has no character of `without`.

        Args:
            size: the prior's number of ids, which may differ from the tokenizer's.
            without: for example the line breaks that end a document in a file of lines.
        """
        forbidden = set(without)
        mask = np.zeros(size, np.bool_)
        clean = [text is not None and forbidden.isdisjoint(text) for text in self.texts[:size]]
        mask[: len(clean)] = clean
        return mask


def read_token_texts(tokenizer: Any) -> TokenTexts:
    """The token texts of a Hugging Face fast tokenizer.

    The text of an id is what decoding a letter and the id gives after the letter: at the start of a text, some
    tokenizers would omit a leading space.

    Raises:
        InputError: the tokenizer is not a fast one, or none of its tokens is a letter or digit.
    """
    backend = fast_backend(tokenizer)
    names = {token: name for name, token in backend.get_vocab(with_added_tokens=True).items()}
    tree = json.loads(backend.to_str())
    special = frozenset({*backend.get_added_tokens_decoder(), *tokenizer.all_special_ids, *_unknown(tree["model"])})
    ordinary = [i for i, name in sorted(names.items()) if i not in special and not _BYTE_TOKEN.fullmatch(name)]
    texts: list[str | None] = [None] * (max(names, default=-1) + 1)
    letter = _find_letter(backend, ordinary)
    for token, text in zip(ordinary, decode_after(backend, letter, [[token] for token in ordinary]), strict=True):
        if text and REPLACEMENT not in text:
            texts[token] = text
    stateless = {key: value for key, value in tree.items() if key not in _STATE}
    return TokenTexts(tuple(texts), special, hash_tree(stateless))


def decode_after(backend: Any, first: int, runs: Sequence[Sequence[int]]) -> list[str]:
    """The text of each run of ids after the token `first`; empty if the run changes the text of `first`."""
    prefix = backend.decode([first])
    texts = backend.decode_batch([[first, *run] for run in runs], skip_special_tokens=False)
    return [text.removeprefix(prefix) if text.startswith(prefix) else "" for text in texts]


def fast_backend(tokenizer: Any) -> Any:
    """The `tokenizers.Tokenizer` inside a fast tokenizer.

    Raises:
        InputError: there is none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, and edits need the offsets of each token. "
            "Give a tokenizer that has a tokenizer.json."
        )
    return backend


def _find_letter(backend: Any, tokens: list[int]) -> int:
    """The first id that is a letter or digit."""
    for token, text in zip(tokens, backend.decode_batch([[token] for token in tokens]), strict=True):
        if len(text) == 1 and text.isalnum():
            return token
    raise InputError(
        f"none of the tokenizer's {len(tokens)} ids is a single letter or digit, so the texts of its tokens cannot be "
        "read. Give the tokenizer of a language model of text."
    )


def _unknown(model: dict[str, Any]) -> Iterator[int]:
    """The id of the unknown token, which need not be declared special."""
    if isinstance(model.get("unk_id"), int):
        yield model["unk_id"]
    name = model.get("unk_token")
    if isinstance(name, str) and isinstance(model["vocab"], dict) and name in model["vocab"]:
        yield model["vocab"][name]


# The characters of a token in its document, which an edit of it may replace.


Span = tuple[int, int]
"""Characters start to end - 1 of a text."""

Reason = Literal["special", "fragment", "shared", "misaligned", "protected", "candidate_fragment", "same_text", "guard"]
"""Why an edit was refused: the token is special or added; it has no text; it shares characters with another token; its
offsets do not read as its text; its characters are protected; the new token has no text; the text would stay the same;
code would no longer parse."""


@dataclass(frozen=True)
class TokenizedText:
    """A tokenized text.

    Args:
        ids: (T,) token ids.
        offsets: (T, 2) the characters of each token, as `return_offsets_mapping` gives them; empty for tokens that
            the tokenizer adds around the text.
    """

    ids: NDArray[np.integer]
    offsets: NDArray[np.integer]

    @cached_property
    def previous_ends(self) -> NDArray[np.int64]:
        """(T,) where the tokens before each end."""
        starts, ends = self.offsets.reshape(-1, 2).T.astype(np.int64)
        reach = np.maximum.accumulate(np.where(ends > starts, ends, 0))
        return np.concatenate([np.zeros(1, np.int64), reach])[: len(starts)]

    @cached_property
    def next_starts(self) -> NDArray[np.int64]:
        """(T,) where the tokens after each start."""
        starts, ends = self.offsets.reshape(-1, 2).T.astype(np.int64)
        begin = np.minimum.accumulate(np.where(ends > starts, starts, np.iinfo(np.int64).max)[::-1])[::-1]
        return np.concatenate([begin, np.full(1, np.iinfo(np.int64).max)])[1:]


@dataclass(frozen=True)
class TokenSpan:
    """The characters of a token. `drop_space`: a replacement loses its leading space, since the text has one there."""

    start: int
    end: int
    drop_space: bool = False


def locate_token(
    text: str, tokens: TokenizedText, position: int, token_texts: TokenTexts, protected: Sequence[Span] = ()
) -> TokenSpan | Reason:
    """The span of the token at `position` in `text`, or why it cannot be edited.

    Args:
        protected: sorted spans that do not overlap, see `merge_spans`.
    """
    token = int(tokens.ids[position])
    if token in token_texts.special:
        return "special"
    token_text = token_texts[token]
    if token_text is None:
        return "fragment"
    start, end = map(int, tokens.offsets[position])
    previous_end = int(tokens.previous_ends[position])
    if start < previous_end or end > tokens.next_starts[position]:
        return "shared"
    span = _match_span(text, start, end, previous_end=previous_end, token_text=token_text)
    if span is None:
        return "misaligned"
    return "protected" if overlaps(protected, span.start, span.end) else span


def overlaps(spans: Sequence[Span], start: int, end: int) -> bool:
    """Whether [start, end) has a character in common with one of the sorted, disjoint `spans`."""
    before = bisect_right(spans, end - 1, key=lambda span: span[0])
    return before > 0 and spans[before - 1][1] > start


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """The same characters as sorted spans that do not overlap."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _match_span(text: str, start: int, end: int, *, previous_end: int, token_text: str) -> TokenSpan | None:
    """The span that reads as `token_text`, around text[start:end] and not before `previous_end`."""
    covered = text[start:end]
    if token_text in (covered, unicodedata.normalize("NFKC", covered)):
        return TokenSpan(start, end)
    # Some tokenizers leave the space before a word out of its offsets, or drop it altogether; some include runs of
    # spaces; some normalize the letters (case, accents, ligatures).
    core = covered.strip()
    body = token_text.lstrip()
    if not core or token_text != token_text.rstrip() or _normalize(core) != _normalize(body):
        return None
    lead = token_text[: len(token_text) - len(body)]
    start += covered.index(core)
    end = start + len(core)
    if start - len(lead) >= previous_end and text[start - len(lead) : start] == lead:
        return TokenSpan(start - len(lead), end)
    if lead not in ("", " "):
        return None
    return TokenSpan(start, end, drop_space=start == 0 or text[start - 1].isspace())


def _normalize(text: str) -> str:
    """NFKC without case, accents and invisible characters."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] not in "MC")


# Text to tokens with offsets, and token ids to text.


class TextTokenizer:
    """A Hugging Face fast tokenizer as a function of texts alone.

    It never truncates or pads, whatever the tokenizer's batch settings. Some byte-level tokenizers leave white space
    out of a token's offsets (`trim_offsets`); this copy does not, which changes no id.

    Raises:
        InputError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = fast_backend(tokenizer)
        tree = _with_whole_offsets(json.loads(backend.to_str()))
        self._backend = type(backend).from_str(json.dumps({**tree, "truncation": None, "padding": None}))
        # Not saved in the file: whether text that spells a special token is encoded as that token.
        self._backend.encode_special_tokens = backend.encode_special_tokens

    def __call__(self, texts: Sequence[str]) -> list[TokenizedText]:
        """The tokens of each text, including those that the tokenizer adds around a text."""
        return [
            TokenizedText(np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64).reshape(-1, 2))
            for encoding in self._backend.encode_batch(list(texts))
        ]


def _with_whole_offsets(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {
            key: False if key == "trim_offsets" else value if key == "vocab" else _with_whole_offsets(value)
            for key, value in tree.items()
        }
    return [_with_whole_offsets(item) for item in tree] if isinstance(tree, list) else tree


Ids = NDArray[np.integer]


class Detokenizer:
    """Decodes documents of token ids into texts with offsets.

    A run of tokens that are parts of characters is decoded as a whole, and its characters are the offsets of each of
    them. Special and added tokens appear by name with empty offsets, like those a tokenizer adds around a text.
    """

    def __init__(self, tokenizer: Any, token_texts: TokenTexts) -> None:
        self._backend, self._token_texts = fast_backend(tokenizer), token_texts
        # A single letter or digit; `read_token_texts` checks that there is one.
        self._letter = next(i for i, text in enumerate(token_texts.texts) if text and len(text) == 1 and text.isalnum())

    def __call__(self, documents: Sequence[Ids]) -> list[tuple[str, TokenizedText]]:
        """The text of each document and its tokens with their offsets."""
        runs = [list(self._runs(ids)) for ids in documents]
        fragments = dict.fromkeys(tuple(run) for row in runs for kind, run in row if kind == "fragment")
        texts = dict(zip(fragments, decode_after(self._backend, self._letter, list(fragments)), strict=True))
        return [self._decode(ids, row, texts) for ids, row in zip(documents, runs, strict=True)]

    def _runs(self, ids: Ids) -> Iterator[tuple[str, list[int]]]:
        for kind, run in groupby(ids.tolist(), self._kind):
            yield kind, list(run)

    def _kind(self, token: int) -> str:
        if token in self._token_texts.special:
            return "special"
        return "fragment" if self._token_texts[token] is None else "ordinary"

    def _decode(
        self, ids: Ids, runs: Sequence[tuple[str, list[int]]], fragments: dict[tuple[int, ...], str]
    ) -> tuple[str, TokenizedText]:
        parts: list[str] = []
        offsets: list[Span] = []
        start = 0
        for kind, run in runs:
            if kind == "fragment":
                parts.append(fragments[tuple(run)])
                end = start + len(parts[-1])
                offsets += [(start, end)] * len(run)
                start = end
                continue
            for token in run:
                parts.append(
                    (self._backend.id_to_token(token) if kind == "special" else self._token_texts[token]) or ""
                )
                end = start + len(parts[-1])
                offsets.append((start, start) if kind == "special" else (start, end))
                start = end
        return "".join(parts), TokenizedText(ids, np.array(offsets, np.int64).reshape(-1, 2))
