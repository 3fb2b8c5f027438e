"""Edits put into a text at the characters of the edited tokens.

Rule: a character that belongs to no applied edit is the original's; nothing is ever decoded as a whole, since decoding
changes text that no one edited: lossy normalizers, lost spaces, characters cut in two.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tailkeep.rules.guarding import guard_python
from tailkeep.rules.placing import Reason, Span, Tokens, find_place
from tailkeep.rules.replacing import Edit, apply_edits
from tailkeep.rules.surfaces import Surfaces


@dataclass(frozen=True)
class Spliced:
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
    tokens: Tokens,
    changes: Mapping[int, int | None],
    surfaces: Surfaces,
    *,
    protected: Sequence[Span] = (),
    guard: Literal["python"] | None = None,
) -> Spliced:
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
    return Spliced(apply_edits(text, edits), _edited(tokens.ids, edits), tuple(edits), dict(sorted(refused.items())))


def _edit(
    text: str, tokens: Tokens, position: int, new_id: int | None, *, surfaces: Surfaces, protected: Sequence[Span]
) -> Edit | Reason:
    place = find_place(text, tokens, position, surfaces, protected)
    if isinstance(place, str):
        return place
    new = "" if new_id is None else surfaces[new_id]
    if new is None:
        return "candidate_fragment"
    if place.glue:
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
