"""A stream of bytes split into chunks, such as lines, and the white space between those that are documents.

Rule: a chunk is held whole or not at all: one longer than the limit is skipped and only measured, so memory is bounded
by the limit, and the size of a read block changes nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tailkeep.data.corpus.io import TruncatedFileError

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes up to a delimiter, and the delimiter; `raw` is None if they are longer than the limit.

    `offset` counts bytes from the start of the stream, `line` its lines from 1; `delimiter` is the length of the
    delimiter; `fault` says why the last chunk is truncated.
    """

    raw: bytes | None
    offset: int
    length: int
    line: int
    delimiter: int = 0
    fault: str = ""

    @property
    def body(self) -> bytes:
        """The bytes without the delimiter; empty if they are not held."""
        return (self.raw or b"")[: self.length - self.delimiter]


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """A chunk that is not blank, and the white space before and after it in the stream."""

    before: bytes
    chunk: Chunk | None
    after: bytes


def split_chunks(
    stream: Iterable[bytes], delimiter: bytes | None, limit: int, *, offset: int = 0, line: int = 1
) -> Iterator[Chunk]:
    """Split `stream` after each `delimiter`; None splits nowhere. The chunks together are the whole stream.

    `limit` is in bytes per chunk, without its delimiter; `offset` and `line` are where in a file the stream begins.
    """
    splitter, blocks = _ChunkSplitter(delimiter, limit, offset, line), BlockReader(stream)
    for block in blocks:
        yield from splitter.feed(block)
    if splitter.dropped or splitter.buffer or blocks.fault:
        yield splitter.rest(blocks.fault)


class BlockReader:
    """The blocks of `stream` to its end, or to its damage; `fault` then says what that is."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream
        self.fault = ""

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except TruncatedFileError as error:
            self.fault = str(error)


class _ChunkSplitter:
    def __init__(self, delimiter: bytes | None, limit: int, offset: int, line: int) -> None:
        self.delimiter, self.limit = delimiter, limit
        self.buffer = bytearray()
        self.searched = self.dropped = 0
        self.offset = offset
        self.line = self.next_line = line

    def feed(self, block: bytes) -> Iterator[Chunk]:
        self.buffer += block
        if self.delimiter is not None:
            done = 0
            while (at := self.buffer.find(self.delimiter, max(done, self.searched))) >= 0:
                end = at + len(self.delimiter)
                yield self._chunk(done, end, len(self.delimiter))
                done = self.searched = end
            del self.buffer[:done]
            # A delimiter may have begun in the last bytes.
            self.searched = max(0, len(self.buffer) - len(self.delimiter) + 1)
        self._drop_overlong()

    def rest(self, fault: str) -> Chunk:
        chunk = self._chunk(0, len(self.buffer), 0)
        return replace(chunk, fault=fault)

    def _drop_overlong(self) -> None:
        delimiter_length = len(self.delimiter or b"")
        if self.dropped + len(self.buffer) > self.limit + delimiter_length:
            count = len(self.buffer) - max(delimiter_length - 1, 0)
            self.next_line += self.buffer.count(b"\n", 0, count)
            self.dropped += count
            del self.buffer[:count]
            self.searched = 0

    def _chunk(self, start: int, end: int, delimiter: int) -> Chunk:
        length = self.dropped + end - start
        raw = None if length - delimiter > self.limit else bytes(self.buffer[start:end])
        chunk = Chunk(raw, self.offset, length, self.line, delimiter)
        self.next_line += self.buffer.count(b"\n", start, end)
        self.offset, self.line, self.dropped = self.offset + length, self.next_line, 0
        return chunk


def paragraphs(lines: Iterable[Chunk], limit: int) -> Iterator[Chunk]:
    """Join lines without a blank line between them; a blank line stays a chunk."""
    group: list[Chunk] = []
    length = 0
    for line in lines:
        if _is_blank(line):
            if group:
                yield _join_chunks(group, limit)
            yield line
            group, length = [], 0
            continue
        group.append(line)
        length += line.length
        if length > limit:
            # The line break after the last line does not belong to the document.
            group = [_join_chunks(group, limit)]
    if group:
        yield _join_chunks(group, limit)


def _join_chunks(group: list[Chunk], limit: int) -> Chunk:
    length = sum(chunk.length for chunk in group)
    whole = b"".join(chunk.raw for chunk in group if chunk.raw is not None)
    is_held = all(chunk.raw is not None for chunk in group) and len(whole.removesuffix(b"\n")) <= limit
    return Chunk(whole if is_held else None, group[0].offset, length, group[0].line, fault=group[-1].fault)


def attach_whitespace(chunks: Iterable[Chunk], limit: int) -> Iterator[ChunkSpan]:
    """Attach white space to the chunk before it, and white space at the start of the stream to the first chunk.

    A stream without a document gives one `ChunkSpan` without a chunk. A byte order mark at its start counts as white
    space.

    Raises:
        BlankError: more than `limit` bytes of white space follow one another.
    """
    before, current, after = b"", None, bytearray()
    for chunk in chunks:
        lead, chunk = _without_bom(chunk)
        before += lead
        if not _is_blank(chunk):
            if current is not None:
                yield ChunkSpan(before, current, bytes(after))
                before = b""
            else:
                before += bytes(after)
            current, after = chunk, bytearray()
        elif chunk.raw:
            after += chunk.raw
            if len(after) > limit:
                raise BlankError(chunk.line)
    yield ChunkSpan(before, current, bytes(after))


class BlankError(ValueError):
    """More consecutive white space than a document may be long; `line` is where the limit was exceeded."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def _without_bom(chunk: Chunk) -> tuple[bytes, Chunk]:
    if chunk.offset == 0 and chunk.raw is not None and chunk.raw.startswith(BOM):
        return BOM, replace(chunk, raw=chunk.raw[len(BOM) :], length=chunk.length - len(BOM))
    return b"", chunk


def _is_blank(chunk: Chunk) -> bool:
    if chunk.raw is None or chunk.fault:
        return False
    head = chunk.body.lstrip()
    # White space for str.strip but not for bytes.strip begins with a control character or is outside ASCII.
    return not head or ((head[0] < 0x20 or head[0] >= 0x80) and not head.decode("utf-8", "replace").strip())
