"""JSON as bytes: the elements of an array in a stream, and single values replaced while all else stays as it is.

Rules: an element is held whole or not at all, and one that is no JSON costs no other: elements end at a comma outside
strings and brackets. Positions of values come from the standard parser, never from a pattern, so the value that is read
is the value that is replaced. Of a duplicate key the parser reads the last.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from tailkeep.data.corpus.chunks import BlockReader, Chunk, ChunkSpan

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


_STRUCTURE = re.compile(rb'[\[\]{},"]')
_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_WHITE = b" \t\r\n"


def split_array(stream: Iterable[bytes], limit: int) -> Iterator[ChunkSpan]:
    """The elements of the array that `stream` begins with, each with its comma; `limit` is in bytes per element.

    The first span begins with what stands before the array, and its bracket. What follows the array, or an array
    without an end, is a last chunk with a fault. An empty array gives one span without a chunk.
    """
    scanner, blocks = _ArrayScanner(limit), BlockReader(stream)
    for block in blocks:
        yield from scanner.feed(block)
        if len(scanner.tail) > limit:
            break
    yield from scanner.rest(blocks.fault)


class _ArrayScanner:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.buffer = bytearray()
        self.at = self.dropped = self.offset = self.depth = 0
        self.head = b""
        self.in_string = self.is_ended = False
        self.number = 0
        self.waiting: ChunkSpan | None = None
        self.tail = bytearray()

    def feed(self, block: bytes) -> Iterator[ChunkSpan]:
        self.buffer += block
        if not self.head and not self._begin():
            return
        while not self.is_ended and (end := self._end()) is not None:
            self.is_ended = self.buffer[end : end + 1] == b"]"
            if self.is_ended and not self.number and not self.buffer[:end].strip(_WHITE):
                self.head += bytes(self.buffer[: end + 1])  # an empty array
                del self.buffer[: end + 1]
            else:
                yield from self._next(self._chunk(end + 1, 1))
        if self.is_ended:
            self.tail += self.buffer
            self.buffer.clear()
        elif self.dropped + len(self.buffer) > self.limit + 1:
            self.dropped += self.at
            del self.buffer[: self.at]
            self.at = 0

    def rest(self, fault: str) -> Iterator[ChunkSpan]:
        if not self.is_ended:
            chunk = replace(self._chunk(len(self.buffer), 0), fault=fault or "the array does not end")
            yield from self._next(chunk)
        elif fault or self.tail.strip(_WHITE):
            raw, self.tail = bytes(self.tail), bytearray()
            fault = fault or "there is text after the end of the array"
            yield from self._next(Chunk(raw, self.offset, len(raw), self.number + 1, fault=fault))
        if self.waiting is None:
            yield ChunkSpan(self.head + bytes(self.tail), None, b"")
        else:
            yield replace(self.waiting, after=bytes(self.tail))

    def _begin(self) -> bool:
        """Take what stands before the first element."""
        start = self.buffer.find(b"[")
        if start < 0:
            return False
        self.head = bytes(self.buffer[: start + 1])
        del self.buffer[: start + 1]
        self.offset = start + 1
        return True

    def _end(self) -> int | None:
        """Where the comma or the bracket after the element stands; None if it is not there yet."""
        while True:
            if self.in_string:
                match = _STRING.match(self.buffer, self.at)
                assert match is not None
                self.at = match.end()
                if self.buffer[self.at : self.at + 1] != b'"':
                    return None
                self.at += 1
                self.in_string = False
            match = _STRUCTURE.search(self.buffer, self.at)
            if match is None:
                self.at = len(self.buffer)
                return None
            self.at = match.end()
            mark = match[0]
            if mark == b'"':
                self.in_string = True
            elif mark in b"[{":
                self.depth += 1
            elif self.depth and mark in b"]}":
                self.depth -= 1
            elif not self.depth and mark in b",]":
                return match.start()

    def _chunk(self, end: int, delimiter: int) -> Chunk:
        length = self.dropped + end
        raw = None if length - delimiter > self.limit else bytes(self.buffer[:end])
        chunk = Chunk(raw, self.offset, length, self.number + 1, delimiter)
        del self.buffer[:end]
        self.offset, self.dropped, self.at = self.offset + length, 0, 0
        return chunk

    def _next(self, chunk: Chunk) -> Iterator[ChunkSpan]:
        """Hold the span of `chunk` back, since what follows the last one belongs to it; yield the one before."""
        if self.waiting is not None:
            yield self.waiting
        self.waiting = ChunkSpan(b"" if self.number else self.head, chunk, b"")
        self.number += 1
