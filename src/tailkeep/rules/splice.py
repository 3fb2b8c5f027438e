"""Edits put into a text at the characters of the edited tokens.

Rule: a character that belongs to no applied edit is the original's; nothing is ever decoded as a whole, since decoding
changes text that no one edited: lossy normalizers, lost spaces, characters cut in two.
"""

import ast
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailkeep.rules.tokens import Reason, Span, TokenizedText, TokenTexts, locate_token

# An edit of a text, and a text with its edits.
#
# Rule: edits name characters of the original text, so any subset of them can be applied.


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` - 1 of the original, which read `old`, become `new`.

    `position` is the token's; `new_id` is None where the token is deleted.
    """

    position: int
    start: int
    end: int
    old: str
    new: str
    old_id: int
    new_id: int | None


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """`text` with `edits`, which are in order and do not overlap; without any, `text` itself."""
    pieces: list[str] = []
    done = 0
    for edit in edits:
        assert edit.start >= done, f"the edit at token {edit.position} overlaps the one before it"
        pieces += text[done : edit.start], edit.new
        done = edit.end
    return "".join([*pieces, text[done:]]) if pieces else text


# Edits of Python code that leave it Python.
#
# Rule: what parsed before parses after, and no more edits are taken back than halving finds to be at fault.


_FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?:python3?|py)\b[^\n]*\n(?P<code>.*?)^[ \t]*(?P=fence)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)


Check = Callable[[str], bool]


def guard_python(text: str, edits: Sequence[Edit]) -> list[Edit]:
    """The edits, in order, with which every piece of Python in `text` still parses.

    A piece is the text if it parses as a whole, otherwise each block fenced as python that does. A piece that does
    not parse before is not guarded. Of the edits in a piece the largest runs that do no harm are kept, from left to
    right.
    """
    kept = list(edits)
    for start, end in list(_pieces(text)) if edits else ():
        inside = [edit for edit in kept if start < edit.end and edit.start < end]
        # Code that needs no dedent must not need one afterwards.
        still = parses_as_it_is if parses_as_it_is(text[start:end]) else parses
        harmful = {*inside} - {*_harmless(text, (start, end), [], inside, still)}
        kept = [edit for edit in kept if edit not in harmful]
    return kept


def parses(code: str) -> bool:
    """Whether `code`, as a whole indented or not, is Python for this interpreter."""
    return parses_as_it_is(textwrap.dedent(code))


def parses_as_it_is(code: str) -> bool:
    """Whether `code` is Python for this interpreter."""
    with warnings.catch_warnings():
        # Invalid escapes and the like are warnings about code that does parse.
        warnings.simplefilter("ignore")
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    if parses(text):
        yield 0, len(text)
        return
    for block in _FENCED.finditer(text):
        if parses(block["code"]):
            yield block.span("code")


def _harmless(text: str, piece: tuple[int, int], kept: list[Edit], edits: list[Edit], still: Check) -> list[Edit]:
    """`kept` and as many of `edits` as halving finds."""
    if not edits or _holds(text, piece, [*kept, *edits], still):
        return [*kept, *edits]
    if len(edits) == 1:
        return kept
    middle = len(edits) // 2
    return _harmless(text, piece, _harmless(text, piece, kept, edits[:middle], still), edits[middle:], still)


def _holds(text: str, piece: tuple[int, int], edits: Sequence[Edit], still: Check) -> bool:
    start, end = piece
    if any(edit.start < start or edit.end > end for edit in edits):
        return False
    within = apply_edits(text[:end], edits)
    return still(within[start:])


@dataclass(frozen=True)
class SpliceResult:
    """An edited text, its edits in order, and the refused positions with their reasons.

    `ids` are the tokens with the applied edits, which need not be what tokenizing `text` again gives.
    """

    text: str
    ids: NDArray[np.integer]
    applied: tuple[Edit, ...]
    refused: Mapping[int, Reason]

    @property
    def reasons(self) -> Counter[Reason]:
        """How many edits were refused for each reason."""
        return Counter(self.refused.values())


def splice(
    text: str,
    tokens: TokenizedText,
    changes: Mapping[int, int | None],
    surfaces: TokenTexts,
    *,
    protected: Sequence[Span] = (),
    guard: Literal["python"] | None = None,
) -> SpliceResult:
    """Replace or delete tokens of `text`.

    Args:
        changes: the new id at each position that changes, None to delete the token.
        protected: sorted spans that do not overlap and stay as they are, see `protected_spans`.
        guard: take back edits after which Python code no longer parses, see `guard_python`.
    """
    refused: dict[int, Reason] = {}
    edits: list[Edit] = []
    for position in sorted(changes):
        edit = _edit(text, tokens, position, changes[position], surfaces=surfaces, protected=protected)
        if isinstance(edit, Edit):
            edits.append(edit)
        else:
            refused[position] = edit
    if guard == "python":
        kept = guard_python(text, edits)
        refused |= dict.fromkeys((edit.position for edit in {*edits} - {*kept}), "guard")
        edits = kept
    return SpliceResult(
        apply_edits(text, edits), _edited(tokens.ids, edits), tuple(edits), dict(sorted(refused.items()))
    )


def _edit(
    text: str,
    tokens: TokenizedText,
    position: int,
    new_id: int | None,
    *,
    surfaces: TokenTexts,
    protected: Sequence[Span],
) -> Edit | Reason:
    place = locate_token(text, tokens, position, surfaces, protected)
    if isinstance(place, str):
        return place
    new = "" if new_id is None else surfaces[new_id]
    if new is None:
        return "candidate_fragment"
    if place.drop_space:
        new = new.removeprefix(" ")
    old = text[place.start : place.end]
    if new == old:
        return "same_text"
    return Edit(position, place.start, place.end, old, new, int(tokens.ids[position]), new_id)


def _edited(ids: NDArray[np.integer], edits: Sequence[Edit]) -> NDArray[np.integer]:
    edited = ids.copy()
    for edit in edits:
        if edit.new_id is not None:
            edited[edit.position] = edit.new_id
    return np.delete(edited, [edit.position for edit in edits if edit.new_id is None])
