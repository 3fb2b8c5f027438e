"""Edits of Python code that leave it Python.

Rule: what parsed before parses after, and no more edits are taken back than halving finds to be at fault.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence

from tailkeep.rules.replacing import Edit, apply_edits

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
