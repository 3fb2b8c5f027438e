"""JSON text in which one string literal is exchanged and every other character stays.

Rule: positions come from the standard parser, never from a pattern, so what it reads is what is changed. Of a key that
stands twice it reads the last.
"""

import json
import re
from collections.abc import Mapping

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
# An escape of a character outside ASCII: an even number of backslashes, then one that begins it.
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])")


def replace_strings(line: str, texts: Mapping[str, str]) -> str:
    """`line`, one JSON value, with the string at each path of `texts` exchanged.

    A new literal spells characters outside ASCII as the old one does; if that has none, as the line does; if that has
    none either, with escapes, so that the line stays ASCII.
    """
    seen: dict[int, dict[str, int]] = {}
    edits = []
    for path, text in texts.items():
        start = _start_of(line, path, seen)
        _, end = _DECODER.raw_decode(line, start)
        edits.append((start, end, json.dumps(text, ensure_ascii=_escapes(line[start:end], line))))
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


def _start_of(line: str, path: str, seen: dict[int, dict[str, int]]) -> int:
    start = _skip(line, 0)
    for key in path.split("."):
        if start not in seen:
            seen[start] = _members(line, start)
        start = seen[start][key]
    return start


def _members(line: str, start: int) -> dict[str, int]:
    """Where each value of the object or list at `start` begins, by key or number."""
    found: dict[str, int] = {}
    is_list = line[start] == "["
    at = _skip(line, start + 1)
    while line[at] not in "]}":
        key = str(len(found))
        if not is_list:
            key, at = _DECODER.raw_decode(line, at)
            at = _skip(line, _skip(line, at) + 1)  # past the colon
        found[key] = at
        _, at = _DECODER.raw_decode(line, at)
        at = _skip(line, at)
        if line[at] == ",":
            at = _skip(line, at + 1)
    return found


def _skip(line: str, at: int) -> int:
    found = _SPACE.match(line, at)
    assert found is not None
    return found.end()
