"""Plain text and JSON lines, in and out.

Rule: what was read and not edited is written as its original bytes, with the white space around it.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from tailkeep.data.corpus.io import TruncatedFileError, blocks, open_input
from tailkeep.data.corpus.json_splice import replace_values
from tailkeep.data.corpus.schema import (
    Content,
    Layout,
    Record,
    Rejected,
    TextField,
    UnusableRecordError,
    fields_of,
    id_of,
)
from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import InputError

# A stream of bytes cut into documents.
#
# Rule: a piece is held whole or not at all: what is longer than the limit is passed over and only measured, so memory
# is bounded by the limit, and the limit alone decides, never the size of a block.


BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Chunk:
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
class ChunkSpan:
    """A piece that is no mere white space, and the white space that stands before it and after it in the stream."""

    before: bytes
    piece: Chunk | None
    after: bytes


def split_chunks(stream: Iterable[bytes], delimiter: bytes | None, limit: int) -> Iterator[Chunk]:
    """Cut behind each `delimiter`, or nowhere; together the pieces are the whole stream.

    `limit` counts the bytes of a piece without its delimiter.
    """
    cutter = _Cutter(delimiter, limit)
    fault = ""
    iterator = iter(stream)
    while not fault:
        try:
            block = next(iterator, b"")
        except TruncatedFileError as error:
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

    def feed(self, block: bytes) -> Iterator[Chunk]:
        self.buffer += block
        if self.delimiter is not None:
            done = 0
            while (at := self.buffer.find(self.delimiter, max(done, self.searched))) >= 0:
                end = at + len(self.delimiter)
                yield self._piece(done, end, len(self.delimiter))
                done = self.searched = end
            del self.buffer[:done]
            # A delimiter may have begun in the last bytes.
            self.searched = max(0, len(self.buffer) - len(self.delimiter) + 1)
        self._pass_over()

    def rest(self, fault: str) -> Chunk:
        piece = self._piece(0, len(self.buffer), 0)
        return replace(piece, fault=fault)

    def _pass_over(self) -> None:
        delimiter_length = len(self.delimiter or b"")
        if self.dropped + len(self.buffer) > self.limit + delimiter_length:
            count = len(self.buffer) - max(delimiter_length - 1, 0)
            self.next_line += self.buffer.count(b"\n", 0, count)
            self.dropped += count
            del self.buffer[:count]
            self.searched = 0

    def _piece(self, start: int, end: int, delimiter: int) -> Chunk:
        length = self.dropped + end - start
        raw = None if length - delimiter > self.limit else bytes(self.buffer[start:end])
        piece = Chunk(raw, self.offset, length, self.line, delimiter)
        self.next_line += self.buffer.count(b"\n", start, end)
        self.offset, self.line, self.dropped = self.offset + length, self.next_line, 0
        return piece


def paragraphs(lines: Iterable[Chunk], limit: int) -> Iterator[Chunk]:
    """Join lines that no blank line parts; a blank line stays a piece of its own."""
    group: list[Chunk] = []
    length = 0
    for line in lines:
        if _is_blank(line):
            if group:
                yield _join_pieces(group, limit)
            yield line
            group, length = [], 0
            continue
        group.append(line)
        length += line.length
        if length > limit:
            # One line break behind the last line is no part of the document.
            group = [_join_pieces(group, limit)]
    if group:
        yield _join_pieces(group, limit)


def _join_pieces(group: list[Chunk], limit: int) -> Chunk:
    length = sum(piece.length for piece in group)
    whole = b"".join(piece.raw for piece in group if piece.raw is not None)
    is_held = all(piece.raw is not None for piece in group) and len(whole.removesuffix(b"\n")) <= limit
    return Chunk(whole if is_held else None, group[0].offset, length, group[0].line, fault=group[-1].fault)


def attach_white_space(pieces: Iterable[Chunk], limit: int) -> Iterator[ChunkSpan]:
    """Give each piece the white space around it: what follows belongs to the one before, what leads to the first.

    A stream without any document is one `ChunkSpan` without a piece. A byte order mark at its start counts as white
    space.
    """
    before, current, after = b"", None, bytearray()
    for piece in pieces:
        lead, piece = _without_mark(piece)
        before += lead
        if not _is_blank(piece):
            if current is not None:
                yield ChunkSpan(before, current, bytes(after))
                before = b""
            else:
                before += bytes(after)
            current, after = piece, bytearray()
        elif piece.raw:
            after += piece.raw
            if len(after) > limit:
                raise BlankError(piece.line)
    yield ChunkSpan(before, current, bytes(after))


class BlankError(ValueError):
    """More white space in a row than a document may be long; `line` is where it became too much."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def _without_mark(piece: Chunk) -> tuple[bytes, Chunk]:
    if piece.offset == 0 and piece.raw is not None and piece.raw.startswith(BOM):
        return BOM, replace(piece, raw=piece.raw[len(BOM) :], length=piece.length - len(BOM))
    return b"", piece


def _is_blank(piece: Chunk) -> bool:
    if piece.raw is None or piece.fault:
        return False
    head = piece.body.lstrip()
    # What str.strip takes and bytes.strip does not begins with a control character or outside ASCII.
    return not head or ((head[0] < 0x20 or head[0] >= 0x80) and not head.decode("utf-8", "replace").strip())


@dataclass(frozen=True, slots=True)
class Bytes:
    """A document as it lay in its file, and the white space and delimiters around it."""

    before: bytes
    raw: bytes
    after: bytes


def read_lines(shard: Shard, layout: Layout) -> Iterator[Record | Rejected]:
    """The documents of a shard of text or JSON lines.

    Raises:
        InputError: the file cannot be read, or holds more white space in a row than a document may be long.
    """
    with open_input(shard.url, shard.name) as file:
        pieces = _pieces(blocks(file, shard.compression), shard, layout, layout.max_document_bytes)
        try:
            for row, placed in enumerate(attach_white_space(pieces, layout.max_document_bytes)):
                yield _document(placed, row, shard, layout)
        except BlankError as error:
            raise InputError(
                f"{shard.name}, line {error.line}: more than {layout.max_document_bytes} bytes of white space in a "
                "row. Give a larger max_document_bytes."
            ) from None


class LineWriter:
    """Writes documents of a shard in their order into `file`."""

    def __init__(self, file: IO[bytes], shard: Shard, layout: Layout) -> None:
        self._file, self._shard, self._layout = file, shard, layout

    def write(self, record: Record, contents: Mapping[str, Content]) -> None:
        """Write `record` with what is in `contents` exchanged, all of which differs from its own."""
        self._file.write(self._edited(record, contents) if contents else _joined(record.origin))

    def refuses(self, record: Record, contents: Mapping[str, Content]) -> str:
        """Why the format cannot hold `contents` as this one document, or nothing: a line holds no line break."""
        if self._shard.kind == "jsonl" or not contents:
            return ""
        pieces = _pieces([self._edited(record, contents)], self._shard, self._layout, sys.maxsize)
        documents = [
            _document(placed, record.row, self._shard, self._layout)
            for placed in attach_white_space(pieces, sys.maxsize)
        ]
        if [item.texts for item in documents if isinstance(item, Record)] == [dict(contents)]:
            return ""
        return f"as plain text cut by {self._layout.document!r} the new text is no longer this one document"

    def _edited(self, record: Record, contents: Mapping[str, Content]) -> bytes:
        origin: Bytes = record.origin
        is_json = self._shard.kind == "jsonl"
        new = replace_values(origin.raw.decode("utf-8"), contents) if is_json else str(contents[""])
        return _joined(Bytes(origin.before, new.encode("utf-8"), origin.after))


def _joined(origin: Bytes) -> bytes:
    return origin.before + origin.raw + origin.after


def _pieces(stream: Iterable[bytes], shard: Shard, layout: Layout, limit: int) -> Iterator[Chunk]:
    if shard.kind == "jsonl" or layout.document == "line":
        return split_chunks(stream, b"\n", limit)
    if layout.document == "file":
        return split_chunks(stream, None, limit)
    if layout.document == "blank-line":
        return paragraphs(split_chunks(stream, b"\n", limit), limit)
    return split_chunks(stream, layout.document.encode("utf-8"), limit)


def _document(placed: ChunkSpan, row: int, shard: Shard, layout: Layout) -> Record | Rejected:
    piece = placed.piece
    if piece is None:
        white = placed.before + placed.after
        return Rejected(row, "no document, only white space or nothing. Give a file with text", shard.name, white, 0)
    where = f"{shard.name}, line {piece.line}"
    try:
        if piece.fault:
            raise UnusableRecordError(f"{piece.fault}. Copy or write the file again")
        if piece.raw is None:
            raise UnusableRecordError(f"{piece.length} bytes exceed max_document_bytes. Raise it")
        origin, text = _text(piece, placed)
        if shard.kind == "txt":
            return Record(f"{shard.name}:{row}", row, where, (TextField("", text),), origin)
        tree = _tree(text)
        name = id_of(tree, layout, f"{shard.name}:{row}")
        return Record(name, row, where, fields_of(tree, layout), origin)
    except UnusableRecordError as error:
        return Rejected(row, str(error), where, piece.raw, piece.offset, piece.length, torn=bool(piece.fault))


def _text(piece: Chunk, placed: ChunkSpan) -> tuple[Bytes, str]:
    """The document without white space around it, as bytes and as text."""
    assert piece.raw is not None
    body = piece.body
    try:
        padded = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = piece.line + body.count(b"\n", 0, error.start)
        raise UnusableRecordError(
            f"not UTF-8: byte 0x{body[error.start]:02x} at offset {piece.offset + error.start}, line {line}. "
            "Save the file as UTF-8"
        ) from None
    text = padded.strip()
    raw = text.encode("utf-8")
    start = len(padded[: len(padded) - len(padded.lstrip())].encode("utf-8"))
    before, after = body[:start], piece.raw[start + len(raw) :]
    return Bytes(placed.before + before, raw, after + placed.after), text


def _tree(line: str) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnusableRecordError(f"not JSON ({error}). Write one object per line") from None
    if not isinstance(tree, dict):
        raise UnusableRecordError(f"expected an object, found {type(tree).__name__}. Write one object per line")
    return tree
