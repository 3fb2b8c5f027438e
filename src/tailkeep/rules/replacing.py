"""An edit of a text, and a text with its edits.

Rule: edits name characters of the original text, so any subset of them can be applied.
"""

from collections.abc import Iterable
from dataclasses import dataclass


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
