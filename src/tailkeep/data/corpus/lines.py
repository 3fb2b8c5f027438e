"""Plain text and JSON lines, in and out.

Rule: what was read and not edited is written as its original bytes, with the white space around it.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from tailkeep.data.corpus.layout import Content, Layout, Part, Record, Rejected, UnfitError, id_of, parts_of
from tailkeep.data.corpus.literals import replace_values
from tailkeep.data.corpus.pieces import BlankError, Piece, Placed, cut, paragraphs, place
from tailkeep.data.corpus.shards import Shard
from tailkeep.data.corpus.streams import blocks, open_input
from tailkeep.errors import InputError


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
            for row, placed in enumerate(place(pieces, layout.max_document_bytes)):
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
        found = [_document(placed, record.row, self._shard, self._layout) for placed in place(pieces, sys.maxsize)]
        if [item.texts for item in found if isinstance(item, Record)] == [dict(contents)]:
            return ""
        return f"as plain text cut by {self._layout.document!r} the new text is no longer this one document"

    def _edited(self, record: Record, contents: Mapping[str, Content]) -> bytes:
        origin: Bytes = record.origin
        is_json = self._shard.kind == "jsonl"
        new = replace_values(origin.raw.decode("utf-8"), contents) if is_json else str(contents[""])
        return _joined(Bytes(origin.before, new.encode("utf-8"), origin.after))


def _joined(origin: Bytes) -> bytes:
    return origin.before + origin.raw + origin.after


def _pieces(stream: Iterable[bytes], shard: Shard, layout: Layout, limit: int) -> Iterator[Piece]:
    if shard.kind == "jsonl" or layout.document == "line":
        return cut(stream, b"\n", limit)
    if layout.document == "file":
        return cut(stream, None, limit)
    if layout.document == "blank-line":
        return paragraphs(cut(stream, b"\n", limit), limit)
    return cut(stream, layout.document.encode("utf-8"), limit)


def _document(placed: Placed, row: int, shard: Shard, layout: Layout) -> Record | Rejected:
    piece = placed.piece
    if piece is None:
        white = placed.before + placed.after
        return Rejected(row, "no document, only white space or nothing. Give a file with text", shard.name, white, 0)
    where = f"{shard.name}, line {piece.line}"
    try:
        if piece.fault:
            raise UnfitError(f"{piece.fault}. Copy or write the file again")
        if piece.raw is None:
            raise UnfitError(f"{piece.length} bytes are longer than a document may be. Raise max_document_bytes")
        origin, text = _text(piece, placed)
        if shard.kind == "txt":
            return Record(f"{shard.name}:{row}", row, where, (Part("", text),), origin)
        tree = _tree(text)
        name = id_of(tree, layout, f"{shard.name}:{row}")
        return Record(name, row, where, parts_of(tree, layout), origin)
    except UnfitError as error:
        return Rejected(row, str(error), where, piece.raw, piece.offset, piece.length, torn=bool(piece.fault))


def _text(piece: Piece, placed: Placed) -> tuple[Bytes, str]:
    """The document without white space around it, as bytes and as text."""
    assert piece.raw is not None
    body = piece.body
    try:
        padded = body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = piece.line + body.count(b"\n", 0, error.start)
        raise UnfitError(
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
        raise UnfitError(f"not JSON ({error}). Write one object a line") from None
    if not isinstance(tree, dict):
        raise UnfitError(f"expected an object, found {type(tree).__name__}. Write one object a line")
    return tree
