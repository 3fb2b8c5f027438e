"""The elements of a JSON array in a stream of bytes, each as its bytes.

Rule: as for lines, an element is held whole or not at all, and one that is no JSON costs no other: elements end at a
comma outside strings and brackets.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tailkeep.data.corpus.chunks import BlockReader, Chunk, ChunkSpan

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
