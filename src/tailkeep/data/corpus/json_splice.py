"""JSON text in which one string literal is exchanged and every other character stays.

Rule: positions come from the standard parser, never from a pattern, so what it reads is what is changed. Of a key that
stands twice it reads the last.
"""

import json
import re
from collections.abc import Mapping, Sequence

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
# An escape of a character outside ASCII: an even number of backslashes, then one that begins it.
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])")


_NUMBER = re.compile(r"-?\d+")


def replace_values(line: str, values: Mapping[str, str | Sequence[int]]) -> str:
    """`line`, one JSON value, with the string or the list of whole numbers at each path of `values` exchanged.

    In a list the white space stays as it is; if the new one is shorter, all of it is as between the first two.

    A new literal spells characters outside ASCII as the old one does; if that has none, as the line does; if that has
    none either, with escapes, so that the line stays ASCII.
    """
    seen: dict[int, dict[str, int]] = {}
    edits = []
    for path, value in values.items():
        start = _start_of(line, path, seen)
        _, end = _DECODER.raw_decode(line, start)
        old = line[start:end]
        new = json.dumps(value, ensure_ascii=_escapes(old, line)) if isinstance(value, str) else _numbers(old, value)
        edits.append((start, end, new))
    pieces, done = [], 0
    for start, end, literal in sorted(edits):
        pieces += [line[done:start], literal]
        done = end
    return "".join([*pieces, line[done:]])


def _escapes(literal: str, line: str) -> bool:
    for text in (literal, line):
        if not text.isascii():
            return False
        if _ESCAPED.search(text):
            return True
    return True


def _numbers(literal: str, numbers: Sequence[int]) -> str:
    """The `literal` of a list of whole numbers with others in their place, of which there may be fewer."""
    old = [match.span() for match in _NUMBER.finditer(literal)]
    if len(old) == len(numbers):
        remaining = iter(numbers)
        return _NUMBER.sub(lambda _: str(next(remaining)), literal)
    between = literal[old[0][1] : old[1][0]] if len(old) > 1 else ", "
    return literal[: old[0][0]] + between.join(map(str, numbers)) + literal[old[-1][1] :]


def _start_of(line: str, path: str, seen: dict[int, dict[str, int]]) -> int:
    start = _skip(line, 0)
    for key in path.split("."):
        if start not in seen:
            seen[start] = _members(line, start)
        start = seen[start][key]
    return start


def _members(line: str, start: int) -> dict[str, int]:
    """Where each value of the object or list at `start` begins, by key or number."""
    starts: dict[str, int] = {}
    is_list = line[start] == "["
    at = _skip(line, start + 1)
    while line[at] not in "]}":
        key = str(len(starts))
        if not is_list:
            key, at = _DECODER.raw_decode(line, at)
            at = _skip(line, _skip(line, at) + 1)  # past the colon
        starts[key] = at
        _, at = _DECODER.raw_decode(line, at)
        at = _skip(line, at)
        if line[at] == ",":
            at = _skip(line, at + 1)
    return starts


def _skip(line: str, at: int) -> int:
    match = _SPACE.match(line, at)
    assert match is not None
    return match.end()
