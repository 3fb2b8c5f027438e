"""A stream of bytes split into chunks: lines, or rows of CSV and TSV (RFC 4180), and the white space between them.

Rules: a chunk is held whole or not at all: one longer than the limit is skipped and only measured, so memory is bounded
by the limit, and the size of a read block changes nothing. A quote begins a quoted field only where the field begins;
inside it a delimiter or a line break is text. Values agree with those of pyarrow.csv.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from tailkeep.data.corpus.io import TruncatedFileError
from tailkeep.data.corpus.schema import UnusableRecordError

BOM = b"\xef\xbb\xbf"
_AGAIN = "Copy or write the file again"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes up to a delimiter, and the delimiter; `raw` is None if they are longer than the limit.

    `offset` counts bytes from the start of the stream, `line` its lines from 1; `delimiter` is the length of the
    delimiter; `fault` says why the last chunk is truncated, and `advice` what to do.
    """

    raw: bytes | None
    offset: int
    length: int
    line: int
    delimiter: int = 0
    fault: str = ""
    advice: str = _AGAIN

    @property
    def is_torn(self) -> bool:
        """Whether the stream breaks off, or ends within the chunk."""
        return bool(self.fault) and self.advice == _AGAIN

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


DELIMITERS = {"csv": ",", "tsv": "\t"}


def split_rows(
    stream: Iterable[bytes], delimiter: str, limit: int, *, offset: int = 0, line: int = 1
) -> Iterator[ChunkSpan]:
    """The rows of `stream`; `limit` is in bytes per row. Empty lines are white space.

    The first span begins with the row of names. A stream without another row gives one span without a chunk. `offset`
    and `line` are where in a file the stream begins; behind its start there is no row of names.

    Raises:
        BlankError: more than `limit` bytes of empty lines follow one another.
    """
    head, after = bytearray(), bytearray()
    has_names = offset > 0
    waiting: ChunkSpan | None = None
    for chunk in _rows(stream, delimiter, limit, offset, line):
        is_blank = not chunk.fault and chunk.raw is not None and chunk.body.removeprefix(BOM) in (b"", b"\r")
        if not has_names:
            head += chunk.raw or b""
            has_names = not is_blank
            if is_blank and len(head) > limit + len(BOM):
                raise BlankError(chunk.line)
            if (chunk := _with_fault_of_names(chunk)).fault:
                yield ChunkSpan(b"", chunk, b"")
                return
        elif is_blank:
            after += chunk.raw or b""
            if len(after) > limit:
                raise BlankError(chunk.line)
        else:
            before = bytes(head + after) if waiting is None else b""
            if waiting is not None:
                yield replace(waiting, after=bytes(after))
            waiting, after = ChunkSpan(before, chunk, b""), bytearray()
    if waiting is None:
        yield ChunkSpan(bytes(head + after), None, b"")
    else:
        yield replace(waiting, after=bytes(after))


def _with_fault_of_names(chunk: Chunk) -> Chunk:
    """The row of names, with what keeps all rows behind it from being read."""
    if chunk.fault:
        return chunk
    if chunk.raw is None:
        fault = f"the row of names has {chunk.length} bytes, which exceed max_document_bytes"
        return replace(chunk, fault=fault, advice="Raise it")
    if b"\r" in _QUOTED_BYTES.sub(b"", chunk.body.removesuffix(b"\r")):
        fault = "the row of names holds a carriage return, which ends no row"
        return replace(chunk, fault=fault, advice="Save the file with line feeds (LF or CRLF)")
    return chunk


def _rows(stream: Iterable[bytes], delimiter: str, limit: int, offset: int = 0, line: int = 1) -> Iterator[Chunk]:
    mark = delimiter.encode()
    next_mark = re.compile(b"[\n" + re.escape(mark) + b"]")
    buffer = bytearray()
    at = dropped = 0
    next_line = line
    # A quote at the start of a field opens it; inside, two quotes are one of the text.
    is_start, is_quoted = True, False
    blocks = BlockReader(stream)
    for block in chain(blocks, [b""]):
        is_last = not block
        buffer += block
        while True:
            if is_quoted:
                quote = buffer.find(b'"', at)
                if quote < 0 or (quote + 1 == len(buffer) and not is_last):
                    at = len(buffer) if quote < 0 else quote
                    break
                is_quoted = buffer[quote + 1 : quote + 2] == b'"'
                at = quote + 1 + is_quoted
                continue
            if is_start:
                first = at if offset or dropped or at or not buffer.startswith(BOM) else len(BOM)
                if first >= len(buffer):
                    break
                is_start = False
                if buffer[first : first + 1] == b'"':
                    is_quoted, at = True, first + 1
                    continue
            match = next_mark.search(buffer, at)
            if match is None:
                at = len(buffer)
                break
            at, is_start = match.end(), True
            if match[0] == b"\n":
                length = dropped + at
                raw = None if length - 1 > limit else bytes(buffer[:at])
                next_line += buffer.count(b"\n", 0, at)
                yield Chunk(raw, offset, length, line, 1)
                offset, line, dropped = offset + length, next_line, 0
                del buffer[:at]
                at = 0
        if dropped + len(buffer) > limit + 1:
            next_line += buffer.count(b"\n", 0, at)
            dropped += at
            del buffer[:at]
            at = 0
    if blocks.fault or dropped or buffer:
        fault = blocks.fault or ("a quoted field does not end" if is_quoted else "")
        length = dropped + len(buffer)
        yield Chunk(None if length > limit else bytes(buffer), offset, length, line, fault=fault)


_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_QUOTED_BYTES = re.compile(rb'"[^"]*"')


def fields_of_row(row: str, delimiter: str) -> list[tuple[int, int, str]]:
    """Where each field of `row`, without its line break, begins and ends, and its value."""
    fields = []
    at = 0
    while True:
        quoted = _QUOTED.match(row, at)
        end = row.find(delimiter, quoted.end() if quoted else at)
        end = len(row) if end < 0 else end
        # As in pyarrow and Python's csv, text after the closing quote belongs to the value.
        value = quoted[1].replace('""', '"') + row[quoted.end() : end] if quoted else row[at:end]
        fields.append((at, end, value))
        if end == len(row):
            return fields
        at = end + len(delimiter)


def names_of(head: bytes, delimiter: str) -> list[str]:
    """The names in the first row of `head` that is not empty.

    Raises:
        UnusableRecordError: they are not UTF-8, or a name occurs twice.
    """
    rows = (chunk.body.removesuffix(b"\r") for chunk in _rows([head.removeprefix(BOM)], delimiter, len(head)))
    try:
        names = [value for _, _, value in fields_of_row(next(filter(None, rows)).decode("utf-8"), delimiter)]
    except UnicodeDecodeError as error:
        raise UnusableRecordError(f"the row of names is not UTF-8 at byte {error.start}. Save it as UTF-8") from None
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UnusableRecordError(f"the column {twice[0]!r} occurs twice. Rename one of the two")
    return names


def tree_of_row(row: str, names: list[str], delimiter: str) -> dict[str, str]:
    """The values of `row` by their names.

    Raises:
        UnusableRecordError: it has more or fewer fields than there are names.
    """
    values = [value for _, _, value in fields_of_row(row, delimiter)]
    if len(values) != len(names):
        raise UnusableRecordError(
            f"{len(values)} fields where the first row names {len(names)}. Quote fields that hold {delimiter!r}"
        )
    return dict(zip(names, values, strict=True))


def replace_fields(row: str, values: Mapping[str, str], names: list[str], delimiter: str) -> str:
    """`row` with new values by name; every other character stays as it is."""
    parts, done = [], 0
    for name, (start, end, _) in zip(names, fields_of_row(row, delimiter), strict=True):
        if name in values:
            value = values[name]
            is_special = any(mark in value for mark in (delimiter, '"', "\n", "\r")) or value != value.strip()
            quoted = '"' + value.replace('"', '""') + '"' if is_special or row[start:end].startswith('"') else value
            parts += [row[done:start], quoted]
            done = end
    return "".join([*parts, row[done:]])
