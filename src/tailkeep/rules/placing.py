"""Where in a text a token stands: the characters that an edit of it may replace.

Rule: offsets are checked, not believed. A place is used only if it is the token's own and reads as the token's surface.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailkeep.rules.surfaces import Surfaces

Span = tuple[int, int]
"""Characters start to end - 1 of a text."""

Reason = Literal["special", "fragment", "shared", "misaligned", "protected", "candidate_fragment", "same_text", "guard"]
"""Why an edit was refused: the token is special or added; it has no surface of its own; it shares characters with
another token; its offsets do not show its surface; its characters are protected; the new token has no surface; the
text would stay the same; code would no longer parse."""


@dataclass(frozen=True)
class Tokens:
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
class Place:
    """The characters of a token; `glue`: a leading space of what replaces them is already there, or needs none."""

    start: int
    end: int
    glue: bool = False


def find_place(
    text: str, tokens: Tokens, position: int, surfaces: Surfaces, protected: Sequence[Span] = ()
) -> Place | Reason:
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


def _own(text: str, start: int, end: int, *, left: int, surface: str) -> Place | None:
    """The part of the text that reads as `surface`, around text[start:end] and not before `left`."""
    shown = text[start:end]
    if surface in (shown, unicodedata.normalize("NFKC", shown)):
        return Place(start, end)
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
        return Place(start - len(lead), end)
    if lead not in ("", " "):
        return None
    return Place(start, end, glue=start == 0 or text[start - 1].isspace())


def _alike(one: str, other: str) -> bool:
    """Whether two strings are the same word to a normalizer: NFKC, without case, accents and invisible characters."""
    return one == other or _plain(one) == _plain(other)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] not in "MC")
