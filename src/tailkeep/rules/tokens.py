"""The text that each token stands for in the middle of a text, and which tokens stand for a text of their own.

Rule: a token without a complete surface (a special or added one, a byte or another part of a character) has none.
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
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# What a call with `truncation=` or `padding=` leaves behind in a tokenizer; it is no part of what the ids mean.
_STATE = ("truncation", "padding")


@dataclass(frozen=True)
class TokenTexts:
    """The surface of each id, None where there is none; the special and added ids; the tokenizer's hash."""

    texts: tuple[str | None, ...]
    special: frozenset[int]
    fingerprint: str

    def __getitem__(self, token: int) -> str | None:
        return self.texts[token] if token < len(self.texts) else None

    def allowed(self, size: int, *, without: str = "") -> NDArray[np.bool_]:
        """(size,) which ids may be drawn: those with a surface that holds no character of `without`.

        Args:
            size: the prior's number of ids, which need not be the tokenizer's.
            without: such as the line breaks that end a document in a file of lines.
        """
        barred = set(without)
        mask = np.zeros(size, np.bool_)
        clean = [text is not None and barred.isdisjoint(text) for text in self.texts[:size]]
        mask[: len(clean)] = clean
        return mask


def read_token_texts(tokenizer: Any) -> TokenTexts:
    """The surfaces of a Hugging Face fast tokenizer.

    The surface of an id is what decoding a letter and the id gives beyond the letter: at the start of a text, some
    tokenizers would leave out a leading space.

    Raises:
        InputError: the tokenizer is not a fast one, or none of its tokens is a letter or digit.
    """
    backend = fast_backend(tokenizer)
    names = {token: name for name, token in backend.get_vocab(with_added_tokens=True).items()}
    tree = json.loads(backend.to_str())
    special = frozenset({*backend.get_added_tokens_decoder(), *tokenizer.all_special_ids, *_unknown(tree["model"])})
    plain = [i for i, name in sorted(names.items()) if i not in special and not _BYTE_PIECE.fullmatch(name)]
    texts: list[str | None] = [None] * (max(names, default=-1) + 1)
    base = _letter(backend, plain)
    for token, surface in zip(plain, decode_after(backend, base, [[token] for token in plain]), strict=True):
        if surface and REPLACEMENT not in surface:
            texts[token] = surface
    lasting = {key: value for key, value in tree.items() if key not in _STATE}
    return TokenTexts(tuple(texts), special, hash_tree(lasting))


def decode_after(backend: Any, base: int, runs: Sequence[Sequence[int]]) -> list[str]:
    """What each run of ids reads as behind the token `base`; nothing where it changes how that reads."""
    prefix = backend.decode([base])
    texts = backend.decode_batch([[base, *run] for run in runs], skip_special_tokens=False)
    return [text.removeprefix(prefix) if text.startswith(prefix) else "" for text in texts]


def fast_backend(tokenizer: Any) -> Any:
    """The `tokenizers.Tokenizer` inside a fast tokenizer.

    Raises:
        InputError: there is none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, and edits need the place of each token in the "
            "text. Give a tokenizer that has a tokenizer.json."
        )
    return backend


def _letter(backend: Any, plain: list[int]) -> int:
    """The first id that is a letter or digit."""
    for token, text in zip(plain, backend.decode_batch([[token] for token in plain]), strict=True):
        if len(text) == 1 and text.isalnum():
            return token
    raise InputError(
        f"none of the tokenizer's {len(plain)} ids is a single letter or digit, so surfaces cannot be read. "
        "Give the tokenizer of a language model of text."
    )


def _unknown(model: dict[str, Any]) -> Iterator[int]:
    """The id for what the vocabulary cannot spell, which need not be declared special."""
    if isinstance(model.get("unk_id"), int):
        yield model["unk_id"]
    name = model.get("unk_token")
    if isinstance(name, str) and isinstance(model["vocab"], dict) and name in model["vocab"]:
        yield model["vocab"][name]


# Where in a text a token stands: the characters that an edit of it may replace.
#
# Rule: offsets are checked, not believed. A place is used only if it is the token's own and reads as the token's
# surface.


Span = tuple[int, int]
"""Characters start to end - 1 of a text."""

Reason = Literal["special", "fragment", "shared", "misaligned", "protected", "candidate_fragment", "same_text", "guard"]
"""Why an edit was refused: the token is special or added; it has no surface of its own; it shares characters with
another token; its offsets do not show its surface; its characters are protected; the new token has no surface; the
text would stay the same; code would no longer parse."""


@dataclass(frozen=True)
class TokenizedText:
    """A tokenized text.

    Args:
        ids: (T,) token ids.
        offsets: (T, 2) the characters of each token, as `return_offsets_mapping` gives them; empty for tokens that
            the tokenizer put around the text.
    """

    ids: NDArray[np.integer]
    offsets: NDArray[np.integer]

    @cached_property
    def left(self) -> NDArray[np.int64]:
        """(T,) how far the tokens before each reach."""
        starts, ends = self.offsets.reshape(-1, 2).T.astype(np.int64)
        reach = np.maximum.accumulate(np.where(ends > starts, ends, 0))
        return np.concatenate([np.zeros(1, np.int64), reach])[: len(starts)]

    @cached_property
    def right(self) -> NDArray[np.int64]:
        """(T,) where the tokens after each begin."""
        starts, ends = self.offsets.reshape(-1, 2).T.astype(np.int64)
        begin = np.minimum.accumulate(np.where(ends > starts, starts, np.iinfo(np.int64).max)[::-1])[::-1]
        return np.concatenate([begin, np.full(1, np.iinfo(np.int64).max)])[1:]


@dataclass(frozen=True)
class TokenSpan:
    """The characters of a token. `drop_space`: what replaces them loses its leading space (one is there already)."""

    start: int
    end: int
    drop_space: bool = False


def locate_token(
    text: str, tokens: TokenizedText, position: int, surfaces: TokenTexts, protected: Sequence[Span] = ()
) -> TokenSpan | Reason:
    """Where the token at `position` stands in `text`, or why it cannot be edited.

    Args:
        protected: sorted spans that do not overlap, see `merge_spans`.
    """
    token = int(tokens.ids[position])
    if token in surfaces.special:
        return "special"
    surface = surfaces[token]
    if surface is None:
        return "fragment"
    start, end = map(int, tokens.offsets[position])
    left = int(tokens.left[position])
    if start < left or end > tokens.right[position]:
        return "shared"
    place = _own(text, start, end, left=left, surface=surface)
    if place is None:
        return "misaligned"
    return "protected" if overlaps(protected, place.start, place.end) else place


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


def _own(text: str, start: int, end: int, *, left: int, surface: str) -> TokenSpan | None:
    """The part of the text that reads as `surface`, around text[start:end] and not before `left`."""
    shown = text[start:end]
    if surface in (shown, unicodedata.normalize("NFKC", shown)):
        return TokenSpan(start, end)
    # Some tokenizers leave the space before a word out of its offsets, or drop it altogether; some put runs of spaces
    # into them; some change the letters on the way in (case, accents, ligatures).
    core = shown.strip()
    body = surface.lstrip()
    if not core or surface != surface.rstrip() or not _alike(core, body):
        return None
    lead = surface[: len(surface) - len(body)]
    start += shown.index(core)
    end = start + len(core)
    if start - len(lead) >= left and text[start - len(lead) : start] == lead:
        return TokenSpan(start - len(lead), end)
    if lead not in ("", " "):
        return None
    return TokenSpan(start, end, drop_space=start == 0 or text[start - 1].isspace())


def _alike(one: str, other: str) -> bool:
    """Whether two strings are the same word to a normalizer: NFKC, without case, accents and invisible characters."""
    return one == other or _plain(one) == _plain(other)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] not in "MC")


# Texts as tokens with the characters of each.
#
# Rule: a tokenizer's settings for batches never enter; a text is neither cut nor filled up, and no offset is shortened.


class TextTokenizer:
    """A Hugging Face fast tokenizer as a function of texts alone.

    Some byte-level tokenizers leave white space out of a token's offsets (`trim_offsets`); this copy does not, which
    changes no id.

    Raises:
        InputError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = fast_backend(tokenizer)
        tree = _with_whole_offsets(json.loads(backend.to_str()))
        self._backend = type(backend).from_str(json.dumps({**tree, "truncation": None, "padding": None}))
        # Not part of the file: whether text that spells a special token is read as one.
        self._backend.encode_special_tokens = backend.encode_special_tokens

    def __call__(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Each text's tokens, among them those that the tokenizer itself puts around a text."""
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


# Token ids as a text in which each token has its place, for documents that come without one.
#
# Rule: a token stands for its surface; what has none is spelled for the reader, and is never edited.


Ids = NDArray[np.integer]


class Detokenizer:
    """Spells documents of token ids.

    A run of tokens that are parts of characters is decoded as a whole and is the place of each of them. Special and
    added tokens stand as they are written, with no place of their own, as a tokenizer's own around a text.
    """

    def __init__(self, tokenizer: Any, surfaces: TokenTexts) -> None:
        self._backend, self._surfaces = fast_backend(tokenizer), surfaces
        # A single letter or digit, which `read_token_texts` has found to be there.
        self._base = next(i for i, text in enumerate(surfaces.texts) if text and len(text) == 1 and text.isalnum())

    def __call__(self, documents: Sequence[Ids]) -> list[tuple[str, TokenizedText]]:
        """The text of each document and its tokens with their places in it."""
        runs = [list(self._runs(ids)) for ids in documents]
        broken = dict.fromkeys(tuple(run) for found in runs for kind, run in found if kind == "fragment")
        texts = dict(zip(broken, decode_after(self._backend, self._base, list(broken)), strict=True))
        return [self._spelled(ids, found, texts) for ids, found in zip(documents, runs, strict=True)]

    def _runs(self, ids: Ids) -> Iterator[tuple[str, list[int]]]:
        for kind, run in groupby(ids.tolist(), self._kind):
            yield kind, list(run)

    def _kind(self, token: int) -> str:
        if token in self._surfaces.special:
            return "special"
        return "fragment" if self._surfaces[token] is None else "plain"

    def _spelled(
        self, ids: Ids, runs: Sequence[tuple[str, list[int]]], fragments: dict[tuple[int, ...], str]
    ) -> tuple[str, TokenizedText]:
        pieces: list[str] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for kind, run in runs:
            if kind == "fragment":
                shown = fragments[tuple(run)]
                pieces.append(shown)
                offsets += [(at, at + len(shown))] * len(run)
                at += len(shown)
                continue
            for token in run:
                written = self._backend.id_to_token(token) if kind == "special" else self._surfaces[token]
                pieces.append(written or "")
                end = at + len(pieces[-1])
                offsets.append((at, at) if kind == "special" else (at, end))
                at = end
        return "".join(pieces), TokenizedText(ids, np.array(offsets, np.int64).reshape(-1, 2))
