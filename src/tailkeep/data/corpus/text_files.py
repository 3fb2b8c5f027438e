"""Plain text and JSON lines: the stream of bytes is split into chunks, and each chunk that is not blank is a document.

Rules: an unedited document is written as its original bytes, with the white space around it. A chunk is held whole or
not at all: a chunk longer than the limit is skipped and only measured, so memory is bounded by the limit, and the size
of a read block changes nothing.
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


def split_chunks(stream: Iterable[bytes], delimiter: bytes | None, limit: int) -> Iterator[Chunk]:
    """Split `stream` after each `delimiter`; None splits nowhere. The chunks together are the whole stream.

    `limit` is in bytes per chunk, without its delimiter.
    """
    splitter = _ChunkSplitter(delimiter, limit)
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
        yield from splitter.feed(block)
    if splitter.dropped or splitter.buffer or fault:
        yield splitter.rest(fault)


class _ChunkSplitter:
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


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a document in its file, and the white space and delimiters around it."""

    before: bytes
    raw: bytes
    after: bytes


def read_lines(shard: Shard, layout: Layout) -> Iterator[Record | Rejected]:
    """The documents of a shard of text or JSON lines.

    Raises:
        InputError: the file cannot be read, or holds more consecutive white space than a document may be long.
    """
    with open_input(shard.url, shard.name) as file:
        chunks = _chunks(blocks(file, shard.compression), shard, layout, layout.max_document_bytes)
        try:
            for row, span in enumerate(attach_whitespace(chunks, layout.max_document_bytes)):
                yield _document(span, row, shard, layout)
        except BlankError as error:
            raise InputError(
                f"{shard.name}, line {error.line}: more than {layout.max_document_bytes} bytes of consecutive white "
                "space. Give a larger max_document_bytes."
            ) from None


class LineWriter:
    """Writes the documents of a shard, in order, to `file`."""

    def __init__(self, file: IO[bytes], shard: Shard, layout: Layout) -> None:
        self._file, self._shard, self._layout = file, shard, layout

    def write(self, record: Record, contents: Mapping[str, Content]) -> None:
        """Write `record` with its fields in `contents` replaced; all of them differ from the original."""
        self._file.write(self._edited(record, contents) if contents else _bytes_of(record.origin))

    def format_error(self, record: Record, contents: Mapping[str, Content]) -> str:
        """Why the format cannot hold `contents` as this one document, such as a line break in a line; "" if it can."""
        if self._shard.kind == "jsonl" or not contents:
            return ""
        chunks = _chunks([self._edited(record, contents)], self._shard, self._layout, sys.maxsize)
        documents = [
            _document(span, record.row, self._shard, self._layout) for span in attach_whitespace(chunks, sys.maxsize)
        ]
        if [item.texts for item in documents if isinstance(item, Record)] == [dict(contents)]:
            return ""
        return f"as plain text split by {self._layout.document_separator!r} the new text is no longer this one document"

    def _edited(self, record: Record, contents: Mapping[str, Content]) -> bytes:
        origin: Bytes = record.origin
        is_json = self._shard.kind == "jsonl"
        new = replace_values(origin.raw.decode("utf-8"), contents) if is_json else str(contents[""])
        return _bytes_of(Bytes(origin.before, new.encode("utf-8"), origin.after))


def _bytes_of(origin: Bytes) -> bytes:
    return origin.before + origin.raw + origin.after


def _chunks(stream: Iterable[bytes], shard: Shard, layout: Layout, limit: int) -> Iterator[Chunk]:
    if shard.kind == "jsonl" or layout.document_separator == "line":
        return split_chunks(stream, b"\n", limit)
    if layout.document_separator == "file":
        return split_chunks(stream, None, limit)
    if layout.document_separator == "blank-line":
        return paragraphs(split_chunks(stream, b"\n", limit), limit)
    return split_chunks(stream, layout.document_separator.encode("utf-8"), limit)


def _document(span: ChunkSpan, row: int, shard: Shard, layout: Layout) -> Record | Rejected:
    chunk = span.chunk
    if chunk is None:
        white = span.before + span.after
        return Rejected(row, "no document: the file is empty or blank. Give a file with text", shard.name, white, 0)
    where = f"{shard.name}, line {chunk.line}"
    try:
        if chunk.fault:
            raise UnusableRecordError(f"{chunk.fault}. Copy or write the file again")
        if chunk.raw is None:
            raise UnusableRecordError(f"{chunk.length} bytes exceed max_document_bytes. Raise it")
        origin, text = _text(chunk, span)
        if shard.kind == "txt":
            return Record(f"{shard.name}:{row}", row, where, (TextField("", text),), origin)
        tree = _tree(text)
        name = id_of(tree, layout, f"{shard.name}:{row}")
        return Record(name, row, where, fields_of(tree, layout), origin)
    except UnusableRecordError as error:
        return Rejected(row, str(error), where, chunk.raw, chunk.offset, chunk.length, torn=bool(chunk.fault))


def _text(chunk: Chunk, span: ChunkSpan) -> tuple[Bytes, str]:
    """The document without surrounding white space, as bytes and as text."""
    assert chunk.raw is not None
    body = chunk.body
    try:
        padded = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = chunk.line + body.count(b"\n", 0, error.start)
        raise UnusableRecordError(
            f"not UTF-8: byte 0x{body[error.start]:02x} at offset {chunk.offset + error.start}, line {line}. "
            "Save the file as UTF-8"
        ) from None
    text = padded.strip()
    raw = text.encode("utf-8")
    start = len(padded[: len(padded) - len(padded.lstrip())].encode("utf-8"))
    before, after = body[:start], chunk.raw[start + len(raw) :]
    return Bytes(span.before + before, raw, after + span.after), text


def _tree(line: str) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnusableRecordError(f"not JSON ({error}). Write one object per line") from None
    if not isinstance(tree, dict):
        raise UnusableRecordError(f"expected an object, got {type(tree).__name__}. Write one object per line")
    return tree
