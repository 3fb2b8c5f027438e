"""Rows of CSV and TSV (RFC 4180) in a stream of bytes, each as its bytes, and their fields.

Rule: as for lines, a row that is not edited is its original bytes. A quote begins a quoted field only where the field
begins; inside it a delimiter or a line break is text. Values agree with those of pyarrow.csv.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from tailkeep.data.corpus.chunks import BOM, BlockReader, Chunk, ChunkSpan
from tailkeep.data.corpus.schema import UnusableRecordError

DELIMITERS = {"csv": ",", "tsv": "\t"}


def split_rows(
    stream: Iterable[bytes], delimiter: str, limit: int, *, offset: int = 0, line: int = 1
) -> Iterator[ChunkSpan]:
    """The rows of `stream`; `limit` is in bytes per row. Empty lines are white space.

    The first span begins with the row of names. A stream without another row gives one span without a chunk. `offset`
    and `line` are where in a file the stream begins; behind its start there is no row of names.
    """
    head, after = b"", b""
    has_names = offset > 0
    waiting: ChunkSpan | None = None
    for chunk in _rows(stream, delimiter, limit, offset, line):
        is_blank = not chunk.fault and chunk.raw is not None and chunk.body.removeprefix(BOM) in (b"", b"\r")
        if not has_names:
            head += chunk.raw or b""
            has_names = not is_blank
            if chunk.raw is None or chunk.fault:
                yield ChunkSpan(b"", chunk, b"")
                return
        elif is_blank:
            after += chunk.raw or b""
        else:
            before = head + after if waiting is None else b""
            if waiting is not None:
                yield replace(waiting, after=after)
            waiting, after = ChunkSpan(before, chunk, b""), b""
    if waiting is None:
        yield ChunkSpan(head + after, None, b"")
    else:
        yield replace(waiting, after=after)


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
