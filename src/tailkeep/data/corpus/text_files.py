"""Files of lines, of JSON, of CSV and of plain text: the stream of bytes is split into documents.

Rules: an unedited document is written as its original bytes, with the white space around it. What holds no document,
such as a row of names or the brackets of an array, is written once. A part of a file is read from its spool or, where
that is missing, from the file itself: the bytes are the same.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tailkeep.data.corpus.chunks import (
    BOM,
    DELIMITERS,
    BlankError,
    Chunk,
    ChunkSpan,
    attach_whitespace,
    names_of,
    paragraphs,
    replace_fields,
    split_chunks,
    split_rows,
    tree_of_row,
)
from tailkeep.data.corpus.io import TruncatedFileError, blocks, open_input
from tailkeep.data.corpus.json_text import replace_values, split_array
from tailkeep.data.corpus.schema import (
    Content,
    Layout,
    Record,
    Rejected,
    TextField,
    UnusableRecordError,
    fields_of,
    id_of,
    value_of,
)
from tailkeep.data.corpus.shards import FilePart, Shard
from tailkeep.errors import InputError

_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"PAR1": ".parquet"}
"""How files of other kinds begin."""
_WHOLE = FilePart(0, 0, 0, 1)


@contextmanager
def open_decompressed(shard: Shard) -> Iterator[Iterator[bytes]]:
    """The plain bytes of `shard`, of any format but parquet, block by block.

    Reading raises a TruncatedFileError behind the last block of a compressed file that is damaged.

    Raises:
        InputError: the file cannot be read.
    """
    fault = shard.spool.fault if shard.spool else ""
    if shard.spool and Path(shard.spool.path).is_file():
        with Path(shard.spool.path).open("rb") as file:
            yield chain(blocks(file, "none"), broken_off(fault))
        return
    with open_input(shard.url, shard.name) as file:
        if shard.part is None:
            yield blocks(file, shard.compression)
            return
        skipped = shard.part.start
        if shard.compression == "none":
            file.seek(skipped)
            skipped = 0
        yield chain(_between(blocks(file, shard.compression), skipped, shard.part), broken_off(fault))


def _between(stream: Iterator[bytes], skipped: int, part: FilePart) -> Iterator[bytes]:
    """The bytes of `part` in `stream`, behind the first `skipped`."""
    remaining = part.stop - part.start
    for block in stream:
        inside = block[skipped : skipped + remaining]
        skipped = max(0, skipped - len(block))
        remaining -= len(inside)
        if inside:
            yield inside
        if not remaining:
            return


def broken_off(fault: str) -> Iterator[bytes]:
    """Nothing, then the `fault`, if there is one."""
    yield from ()
    if fault:
        raise TruncatedFileError(fault)


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a document in its file, and the white space and delimiters around it.

    `head` is what stands before the first document of a CSV file or of a JSON array.
    """

    before: bytes
    raw: bytes
    after: bytes
    head: bytes = b""

    @property
    def length(self) -> int:
        """The number of bytes, but for the head."""
        return len(self.before) + len(self.raw) + len(self.after)

    @property
    def is_element(self) -> bool:
        """Whether the document is an element of an array, of which `after` has the comma or the bracket."""
        return self.head.endswith(b"[")


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document of a file: its bytes, its text, and, of a format with fields, the value. Or why it is none."""

    row: int
    where: str
    chunk: Chunk | None
    origin: Bytes
    line: int | None = None
    text: str = ""
    tree: Any = None
    fault: str = ""


def read_lines(shard: Shard, layout: Layout, extra: str | None = None) -> Iterator[Record | Rejected]:
    """The documents of a shard of any format but parquet, each with the value of the field `extra`.

    Raises:
        InputError: the file cannot be read, or holds more consecutive white space than a document may be long.
    """
    for document in read_raw(shard, layout):
        yield _record(document, shard, layout, extra)


def read_raw(shard: Shard, layout: Layout) -> Iterator[RawDocument]:
    """The documents of a shard of any format but parquet, before their fields are looked up.

    Raises:
        InputError: as `read_lines` does.
    """
    with open_decompressed(shard) as stream, blank_errors(shard, layout):
        yield from raw_documents(stream, shard, layout)


@contextmanager
def blank_errors(shard: Shard, layout: Layout) -> Iterator[None]:
    """Turn a `BlankError` into an `InputError` about `shard`."""
    try:
        yield
    except BlankError as error:
        raise InputError(
            f"{shard.name}, line {error.line}: more than {layout.max_document_bytes} bytes of consecutive white "
            "space. Give a larger max_document_bytes."
        ) from None


class LineWriter:
    """Writes the documents of a shard, in order, to `file`."""

    def __init__(self, file: IO[bytes], shard: Shard, layout: Layout) -> None:
        self._file, self._shard, self._layout = file, shard, layout
        # What stands before the first document belongs to the first part.
        self._is_begun = shard.part is not None and shard.part.start > 0
        self._end = b""
        self._names: list[str] = []

    def write(self, record: Record, contents: Mapping[str, Content]) -> None:
        """Write `record` with its fields in `contents` replaced; all of them differ from the original."""
        origin = self._edited(record, contents) if contents else record.origin
        self._file.write(origin.head if not self._is_begun else b"," if origin.is_element else b"")
        self._is_begun = True
        after = origin.after
        if origin.is_element:
            # Whether a comma or the end of the array follows depends on what is still written.
            at = max(after.find(b","), after.find(b"]"))
            after, self._end = after[:at], after[at:] if after[at:].startswith(b"]") else b"]\n"
        self._file.write(origin.before + origin.raw + after)

    def finish(self) -> None:
        """Write what follows the last document, or all of a file without one."""
        if not self._is_begun:
            with open_decompressed(self._shard) as stream:
                is_array, spans = document_spans(stream, self._shard, self._layout, self._layout.max_document_bytes)
                span = next(spans)
            if span.chunk is None:
                self._file.write(span.before + span.after)
            elif is_array or self._shard.kind in DELIMITERS:
                self._file.write(span.before + (b"]\n" if is_array else b""))
        self._file.write(self._end)

    def format_error(self, record: Record, contents: Mapping[str, Content]) -> str:
        """Why the format cannot hold `contents` as this one document, such as a line break in a line; "" if it can."""
        if self._shard.kind != "txt" or not contents:
            return ""
        stream = [_joined(self._edited(record, contents))]
        documents = list(raw_documents(stream, self._shard.whole, self._layout, limit=sys.maxsize))
        if [item.text for item in documents if not item.fault] == list(contents.values()):
            return ""
        return f"as plain text split by {self._layout.document_separator!r} the new text is no longer this one document"

    def _edited(self, record: Record, contents: Mapping[str, Content]) -> Bytes:
        origin: Bytes = record.origin
        if self._shard.kind == "txt":
            new = str(contents[""])
        elif delimiter := DELIMITERS.get(self._shard.kind):
            self._names = self._names or names_of(origin.head, delimiter)
            texts = {name: str(text) for name, text in contents.items()}
            new = replace_fields(origin.raw.decode("utf-8"), texts, self._names, delimiter)
        else:
            new = replace_values(origin.raw.decode("utf-8"), contents)
        return Bytes(origin.before, new.encode("utf-8"), origin.after, origin.head)


def _joined(origin: Bytes) -> bytes:
    return origin.before + origin.raw + origin.after


def document_spans(
    stream: Iterator[bytes], shard: Shard, layout: Layout, limit: int
) -> tuple[bool, Iterator[ChunkSpan]]:
    """Whether `stream`, the plain bytes of `shard`, is a JSON array, and its documents as bytes."""
    part = shard.part or _WHOLE
    if shard.kind in DELIMITERS:
        return False, split_rows(stream, DELIMITERS[shard.kind], limit, offset=part.start, line=part.line)
    if shard.kind == "json" and shard.part is None:
        begin = b""
        try:
            while not begin.removeprefix(BOM).strip() and len(begin) <= limit:
                if not (block := next(stream, b"")):
                    break
                begin += block
        except TruncatedFileError as error:
            stream = broken_off(str(error))
        stream = chain([begin], stream)
        if begin.removeprefix(BOM).lstrip().startswith(b"["):
            return True, split_array(stream, limit)
    return False, attach_whitespace(_chunks(stream, shard, layout, limit), limit)


def _chunks(stream: Iterable[bytes], shard: Shard, layout: Layout, limit: int) -> Iterator[Chunk]:
    separator = "line" if shard.kind != "txt" else layout.document_separator
    named: dict[str, bytes | None] = {"line": b"\n", "file": None, "blank-line": b"\n"}
    delimiter = named.get(separator, separator.encode("utf-8"))
    part = shard.part or _WHOLE
    chunks = split_chunks(stream, delimiter, limit, offset=part.start, line=part.line)
    return paragraphs(chunks, limit) if separator == "blank-line" else chunks


def raw_documents(
    stream: Iterable[bytes], shard: Shard, layout: Layout, *, limit: int | None = None
) -> Iterator[RawDocument]:
    """The documents in `stream`, the plain bytes of `shard`; `limit` is in bytes per document.

    Raises:
        BlankError: there is more consecutive white space than a document may be long.
    """
    is_array, spans = document_spans(iter(stream), shard, layout, layout.max_document_bytes if limit is None else limit)
    delimiter = DELIMITERS.get(shard.kind)
    part = shard.part or _WHOLE
    head, names = part.names, list[str]()
    for row, span in enumerate(spans, part.row):
        chunk = span.chunk
        if chunk is None:
            return
        if (is_array or delimiter) and not row:
            head = span.before
        before = b"" if is_array or delimiter else span.before
        where = f"{shard.name}, item {row + 1}" if is_array else f"{shard.name}, line {chunk.line}"
        origin, text, tree, fault = Bytes(b"", b"", b""), "", None, ""
        line: int | None = None
        try:
            if chunk.fault:
                raise UnusableRecordError(f"{chunk.fault}. {chunk.advice}")
            if chunk.raw is None:
                raise UnusableRecordError(f"{chunk.length} bytes exceed max_document_bytes. Raise it")
            origin, text = _text(chunk, before, span.after, head, is_row=delimiter is not None)
            if not is_array:
                line = chunk.line + (chunk.raw.count(b"\n", 0, chunk.raw.find(origin.raw)) if origin.raw else 0)
            if delimiter:
                names = names or names_of(head, delimiter)
                tree = tree_of_row(text, names, delimiter)
            elif shard.kind != "txt":
                tree = _parsed(text)
        except UnusableRecordError as error:
            fault = str(error)
        yield RawDocument(row, where, chunk, origin, line, text, tree, fault)


def _record(document: RawDocument, shard: Shard, layout: Layout, extra: str | None) -> Record | Rejected:
    row, where, chunk = document.row, document.where, document.chunk
    try:
        if document.fault:
            raise UnusableRecordError(document.fault)
        if shard.kind == "txt":
            fields: tuple[TextField, ...] = (TextField("", document.text),)
            return Record(f"{shard.name}:{row}", row, where, fields, document.origin, document.line)
        if not isinstance(document.tree, dict):
            kind = type(document.tree).__name__
            raise UnusableRecordError(f"expected an object, got {kind}. Write one object per line")
        name = id_of(document.tree, layout, f"{shard.name}:{row}")
        fields = fields_of(document.tree, layout)
        return Record(name, row, where, fields, document.origin, document.line, value_of(document.tree, extra))
    except UnusableRecordError as error:
        assert chunk is not None
        return Rejected(row, str(error), where, chunk.raw, chunk.offset, chunk.length, torn=bool(chunk.fault))


def _text(chunk: Chunk, before: bytes, after: bytes, head: bytes, *, is_row: bool) -> tuple[Bytes, str]:
    """The document without surrounding white space, as bytes and as text; of a row, without its line break."""
    assert chunk.raw is not None
    body = chunk.body
    try:
        padded = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = chunk.line + body.count(b"\n", 0, error.start)
        place = f"byte 0x{body[error.start]:02x} at offset {chunk.offset + error.start}, line {line}"
        kind = None if chunk.offset else next((name for magic, name in _MAGIC.items() if body.startswith(magic)), None)
        advice = f"The file begins like {kind}: name it so, as in NAME{kind}" if kind else "Save the file as UTF-8"
        raise UnusableRecordError(f"not UTF-8: {place}. {advice}") from None
    text = padded.removesuffix("\r") if is_row else padded.strip()
    if len(text) == len(padded):
        return Bytes(before, body, chunk.raw[len(body) :] + after, head), text
    raw = text.encode("utf-8")
    start = 0 if is_row else len(padded[: len(padded) - len(padded.lstrip())].encode("utf-8"))
    return Bytes(before + body[:start], raw, chunk.raw[start + len(raw) :] + after, head), text


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnusableRecordError(f"not JSON ({error}). Write one object per line, or an array of objects") from None
