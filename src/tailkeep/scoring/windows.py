"""Which tokens are read together: documents cut into overlapping windows, windows put into batches of similar length.

Rule: all of it is a function of the documents' lengths and the two limits, so that no worker can change a result.
"""

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

RowT = TypeVar("RowT", bound=Sized)


@dataclass(frozen=True)
class Window:
    """Tokens [start, stop) of document `row` are read; those of [first, stop) are scored."""

    row: int
    start: int
    first: int
    stop: int

    @property
    def width(self) -> int:
        """The number of tokens read."""
        return self.stop - self.start


def windows_of(row: int, length: int, size: int) -> Iterator[Window]:
    """Windows of at most `size` >= 2 tokens that score each token but the first of a document once.

    A token has all tokens before it as context, or at least `size / 2` of them.
    """
    if length < 2:
        return
    context = size - size // 2
    start, first = 0, 1
    while first < length:
        stop = min(start + size, length)
        yield Window(row, start, first, stop)
        start, first = stop - context, stop


def batches_of(windows: Iterable[Window], limit: int) -> list[list[Window]]:
    """Batches of windows of similar width, of at most `limit` tokens with padding, or of one window."""
    batches: list[list[Window]] = []
    room = 0
    for window in sorted(windows, key=lambda window: (window.width, window.row, window.start)):
        if not batches or window.width * (len(batches[-1]) + 1) > room:
            batches.append([])
            room = max(limit, window.width)
        batches[-1].append(window)
    return batches


def groups_of(rows: Iterable[RowT], tokens: int) -> Iterator[list[RowT]]:
    """Consecutive documents of at least `tokens` tokens together; the last group may have fewer."""
    group: list[RowT] = []
    held = 0
    for row in rows:
        group.append(row)
        held += len(row)
        if held >= tokens:
            yield group
            group, held = [], 0
    if group:
        yield group
