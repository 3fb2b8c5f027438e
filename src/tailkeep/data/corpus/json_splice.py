"""Replacing single values in JSON text; every other character stays as it is.

Rule: positions come from the standard parser, never from a pattern, so the value that is read is the value that is
replaced. Of a duplicate key the parser reads the last.
"""

import json
import re
from collections.abc import Mapping, Sequence

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
# An escape of a character outside ASCII: an even number of backslashes, then the one that begins it.
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])")
_NUMBER = re.compile(r"-?\d+")


def replace_values(line: str, values: Mapping[str, str | Sequence[int]]) -> str:
    """`line`, one JSON value, with a new string or list of whole numbers at each path of `values`.

    White space in a list stays as it is; in a shorter new list, all of it is as between the first two numbers.

    A new string writes characters outside ASCII as the old one does, raw or escaped; if the old one has none, as the
    line does; if the line has none either, escaped, so that the line stays ASCII.
    """
    seen: dict[int, dict[str, int]] = {}
    edits = []
    for path, value in values.items():
        start = _start_of(line, path, seen)
        _, end = _DECODER.raw_decode(line, start)
        old = line[start:end]
        new = (
            json.dumps(value, ensure_ascii=_escapes(old, line))
            if isinstance(value, str)
            else _replace_numbers(old, value)
        )
        edits.append((start, end, new))
    parts, done = [], 0
    for start, end, literal in sorted(edits):
        parts += [line[done:start], literal]
        done = end
    return "".join([*parts, line[done:]])


def _escapes(literal: str, line: str) -> bool:
    for text in (literal, line):
        if not text.isascii():
            return False
        if _ESCAPED.search(text):
            return True
    return True


def _replace_numbers(literal: str, numbers: Sequence[int]) -> str:
    """The `literal` of a list with new whole numbers, which may be fewer."""
    old = [match.span() for match in _NUMBER.finditer(literal)]
    if len(old) == len(numbers):
        remaining = iter(numbers)
        return _NUMBER.sub(lambda _: str(next(remaining)), literal)
    between = literal[old[0][1] : old[1][0]] if len(old) > 1 else ", "
    return literal[: old[0][0]] + between.join(map(str, numbers)) + literal[old[-1][1] :]


def _start_of(line: str, path: str, seen: dict[int, dict[str, int]]) -> int:
    start = _skip_space(line, 0)
    for key in path.split("."):
        if start not in seen:
            seen[start] = _members(line, start)
        start = seen[start][key]
    return start


def _members(line: str, start: int) -> dict[str, int]:
    """The start of each value of the object or list at `start`, by key or index."""
    starts: dict[str, int] = {}
    is_list = line[start] == "["
    at = _skip_space(line, start + 1)
    while line[at] not in "]}":
        key = str(len(starts))
        if not is_list:
            key, at = _DECODER.raw_decode(line, at)
            at = _skip_space(line, _skip_space(line, at) + 1)  # past the colon
        starts[key] = at
        _, at = _DECODER.raw_decode(line, at)
        at = _skip_space(line, at)
        if line[at] == ",":
            at = _skip_space(line, at + 1)
    return starts


def _skip_space(line: str, at: int) -> int:
    match = _SPACE.match(line, at)
    assert match is not None
    return match.end()
