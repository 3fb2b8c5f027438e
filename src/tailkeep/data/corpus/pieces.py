"""A stream of bytes cut into documents.

Rule: a piece is held whole or not at all: what is longer than the limit is passed over and only measured, so memory
is bounded by the limit, and the limit alone decides, never the size of a block.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tailkeep.data.corpus.streams import TornError

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes between two delimiters, with the delimiter behind them; `raw` is None if they are longer than the limit.

    `offset` counts bytes from the start of the stream, `line` its lines from 1; `delimiter` is the length of the one at
    its end; `fault` says why a last piece is torn.
    """

    raw: bytes | None
    offset: int
    length: int
    line: int
    delimiter: int = 0
    fault: str = ""

    @property
    def body(self) -> bytes:
        """The bytes without the delimiter, nothing if they are not held."""
        return (self.raw or b"")[: self.length - self.delimiter]


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece that is no mere white space, and the white space that stands before it and after it in the stream."""

    before: bytes
    piece: Piece | None
    after: bytes


def cut(stream: Iterable[bytes], delimiter: bytes | None, limit: int) -> Iterator[Piece]:
    """Cut behind each `delimiter`, or nowhere; together the pieces are the whole stream.

    `limit` counts the bytes of a piece without its delimiter.
    """
    cutter = _Cutter(delimiter, limit)
    fault = ""
    iterator = iter(stream)
    while not fault:
        try:
            block = next(iterator, b"")
        except TornError as error:
            fault = str(error)
            break
        if not block:
            break
        yield from cutter.feed(block)
    if cutter.dropped or cutter.buffer or fault:
        yield cutter.rest(fault)


class _Cutter:
    def __init__(self, delimiter: bytes | None, limit: int) -> None:
        self.delimiter, self.limit = delimiter, limit
        self.buffer = bytearray()
        self.searched = self.dropped = self.offset = 0
        self.line = self.next_line = 1

    def feed(self, block: bytes) -> Iterator[Piece]:
        self.buffer += block
        if self.delimiter is not None:
            done = 0
            while (found := self.buffer.find(self.delimiter, max(done, self.searched))) >= 0:
                end = found + len(self.delimiter)
                yield self._piece(done, end, len(self.delimiter))
                done = self.searched = end
            del self.buffer[:done]
            # A delimiter may have begun in the last bytes.
            self.searched = max(0, len(self.buffer) - len(self.delimiter) + 1)
        self._pass_over()

    def rest(self, fault: str) -> Piece:
        piece = self._piece(0, len(self.buffer), 0)
        return replace(piece, fault=fault)

    def _pass_over(self) -> None:
        kept = len(self.delimiter or b"")
        if self.dropped + len(self.buffer) > self.limit + kept:
            count = len(self.buffer) - max(kept - 1, 0)
            self.next_line += self.buffer.count(b"\n", 0, count)
            self.dropped += count
            del self.buffer[:count]
            self.searched = 0

    def _piece(self, start: int, end: int, delimiter: int) -> Piece:
        length = self.dropped + end - start
        raw = None if length - delimiter > self.limit else bytes(self.buffer[start:end])
        piece = Piece(raw, self.offset, length, self.line, delimiter)
        self.next_line += self.buffer.count(b"\n", start, end)
        self.offset, self.line, self.dropped = self.offset + length, self.next_line, 0
        return piece


def paragraphs(lines: Iterable[Piece], limit: int) -> Iterator[Piece]:
    """Join lines that no blank line parts; a blank line stays a piece of its own."""
    group: list[Piece] = []
    length = 0
    for line in lines:
        if _is_blank(line):
            if group:
                yield _joined(group, limit)
            yield line
            group, length = [], 0
            continue
        group.append(line)
        length += line.length
        if length > limit:
            # One line break behind the last line is no part of the document.
            group = [_joined(group, limit)]
    if group:
        yield _joined(group, limit)


def _joined(group: list[Piece], limit: int) -> Piece:
    length = sum(piece.length for piece in group)
    whole = b"".join(piece.raw for piece in group if piece.raw is not None)
    is_held = all(piece.raw is not None for piece in group) and len(whole.removesuffix(b"\n")) <= limit
    return Piece(whole if is_held else None, group[0].offset, length, group[0].line, fault=group[-1].fault)


def place(pieces: Iterable[Piece], limit: int) -> Iterator[Placed]:
    """Give each piece the white space around it: what follows belongs to the one before, what leads to the first.

    A stream without any document is one `Placed` without a piece. A byte order mark at its start counts as white space.
    """
    before, current, after = b"", None, bytearray()
    for piece in pieces:
        lead, piece = _without_mark(piece)
        before += lead
        if not _is_blank(piece):
            if current is not None:
                yield Placed(before, current, bytes(after))
                before = b""
            else:
                before += bytes(after)
            current, after = piece, bytearray()
        elif piece.raw:
            after += piece.raw
            if len(after) > limit:
                raise BlankError(piece.line)
    yield Placed(before, current, bytes(after))


class BlankError(ValueError):
    """More white space in a row than a document may be long; `line` is where it became too much."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def _without_mark(piece: Piece) -> tuple[bytes, Piece]:
    if piece.offset == 0 and piece.raw is not None and piece.raw.startswith(BOM):
        return BOM, replace(piece, raw=piece.raw[len(BOM) :], length=piece.length - len(BOM))
    return b"", piece


def _is_blank(piece: Piece) -> bool:
    if piece.raw is None or piece.fault:
        return False
    head = piece.body.lstrip()
    # What str.strip takes and bytes.strip does not begins with a control character or outside ASCII.
    return not head or ((head[0] < 0x20 or head[0] >= 0x80) and not head.decode("utf-8", "replace").strip())
