"""Parquet files: reading, editing and writing, one row group at a time.

Rule: the values around an edit stay as they are, and so do schema, metadata, row groups and compression of the file.
Memory is bounded by the largest row group, since a row group is written at once.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailkeep.data.corpus.io import TruncatedFileError, as_truncation_error, is_empty, open_parquet
from tailkeep.data.corpus.schema import (
    Content,
    Layout,
    Record,
    Rejected,
    UnusableRecordError,
    fields_of,
    id_of,
    value_of,
)
from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import InputError

Edit = tuple[int, Sequence[str], Content]
"""The row, the rest of the path and the new content.

A path leads through structs by name and through lists by index to a string or a list of whole numbers.
"""


def replace_in_table(table: pa.Table, edits: dict[int, dict[str, Content]]) -> pa.Table:
    """`table` with new contents: {row: {path: content}}."""
    by_column: dict[str, list[Edit]] = defaultdict(list)
    for row, contents in edits.items():
        for path, content in contents.items():
            column, *rest = path.split(".")
            by_column[column].append((row, rest, content))
    for column, replacements in by_column.items():
        index = table.schema.get_field_index(column)
        table = table.set_column(index, table.schema.field(index), _replace_chunked(table.column(index), replacements))
    return table


def _replace_chunked(column: pa.ChunkedArray, edits: list[Edit]) -> pa.ChunkedArray:
    # Chunk by chunk, since the strings of a whole row group may exceed 32-bit offsets.
    chunks, start = [], 0
    for chunk in column.chunks:
        inside = [(row - start, rest, text) for row, rest, text in edits if start <= row < start + len(chunk)]
        chunks.append(_replace(chunk, inside) if inside else chunk)
        start += len(chunk)
    return pa.chunked_array(chunks, type=column.type)


def _replace(array: pa.Array, edits: list[Edit]) -> pa.Array:
    kind = array.type
    if pa.types.is_struct(kind):
        return _replace_in_struct(array, edits)
    if edits and not any(rest for _, rest, _ in edits) and is_list(kind):
        return _replace_lists(array, edits)
    if pa.types.is_fixed_size_list(kind):
        return _replace_in_list(array.cast(pa.list_(kind.value_field)), edits).cast(kind)
    if is_list(kind):
        return _replace_in_list(array, edits)
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if _is_text(inner) or _is_binary(inner):
        values = array.to_pylist()
        for row, _, text in edits:
            values[row] = str(text).encode("utf-8") if _is_binary(inner) else text
        return pa.array(values, type=kind)
    raise InputError(f"text in a column of type {kind} cannot be edited. Store it as string, in structs or lists.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists that can be edited."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _replace_lists(array: pa.Array, edits: list[Edit]) -> pa.Array:
    """`array` with new lists of whole numbers in some rows; each may be shorter than before."""
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        # Only in this type does a null take as many values as any other row.
        loose = _replace_lists(array.cast(pa.list_(kind.value_field)), edits)
        return loose.cast(kind)
    values = array.flatten()
    offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(array), 0).to_numpy())])
    lengths, pieces, done = np.diff(offsets), [], 0
    for row, _, ids in sorted(edits, key=lambda edit: edit[0]):
        pieces += [values.slice(done, offsets[row] - done), pa.array(ids, type=kind.value_type)]
        done, lengths[row] = offsets[row + 1], len(ids)
    merged = pa.concat_arrays([*pieces, values.slice(done)])
    width = pa.int64() if pa.types.is_large_list(kind) else pa.int32()
    bounds = pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=width)
    return type(array).from_arrays(bounds, merged, type=kind, mask=array.is_null())


def _replace_in_struct(array: pa.StructArray, edits: list[Edit]) -> pa.StructArray:
    by_field: dict[str, list[Edit]] = defaultdict(list)
    for row, (name, *rest), text in edits:
        by_field[name].append((row, rest, text))
    fields = list(array.type)
    children = [
        _replace(array.field(index), by_field[field.name]) if field.name in by_field else array.field(index)
        for index, field in enumerate(fields)
    ]
    return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())


def _replace_in_list(array: pa.ListArray, edits: list[Edit]) -> pa.ListArray:
    values = array.flatten()
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_pylist()
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    inner: list[Edit] = [(offsets[row] + int(number), rest, text) for row, (number, *rest), text in edits]
    width = pa.int64() if pa.types.is_large_list(array.type) else pa.int32()
    return type(array).from_arrays(
        pa.array(offsets, type=width), _replace(values, inner), type=array.type, mask=array.is_null()
    )


_ROWS_AT_ONCE = 256
_NOT_UTF8 = "text that is not UTF-8. Write the file again"
_DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


@dataclass(eq=False)
class RowGroup:
    """A row group in memory: its number, its rows, which rows to write, and their edits."""

    number: int
    table: pa.Table
    kept_rows: list[int] = field(default_factory=list)
    edits: dict[int, dict[str, Content]] = field(default_factory=dict)


def read_parquet(shard: Shard, layout: Layout, extra: str | None = None) -> Iterator[Record | Rejected]:
    """The documents of a parquet shard, each with the value of the field `extra`.

    The origin of each is its row group and its row in it.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open_parquet(shard.url, shard.name) as file:
            yield from _documents(file, shard, layout, extra)
    except TruncatedFileError as error:
        if not is_empty(shard.url, shard.name):
            yield Rejected(0, f"{error}. Copy or write it again", shard.name, torn=True)


def read_rows(shard: Shard) -> Iterator[tuple[str, dict[str, Any] | None, str]]:
    """The rows of a parquet shard with all their columns: the place, the row, and why it cannot be read.

    Raises:
        InputError: the file cannot be read.
    """
    number = 0
    try:
        with open_parquet(shard.url, shard.name) as file:
            for index in range(file.num_row_groups):
                group, fault = _group(file, index)
                if group is None:
                    yield _where(shard, number), None, fault
                    return
                for tree in _rows(group.table):
                    yield _where(shard, number), tree, _NOT_UTF8 if tree is None else ""
                    number += 1
    except TruncatedFileError as error:
        if not is_empty(shard.url, shard.name):
            yield shard.name, None, f"{error}. Copy or write it again"


def _documents(file: pq.ParquetFile, shard: Shard, layout: Layout, extra: str | None) -> Iterator[Record | Rejected]:
    columns, missing = _columns(file.schema_arrow, layout, extra)
    start, stop = shard.row_groups or (0, file.num_row_groups)
    lengths = [file.metadata.row_group(number).num_rows for number in range(stop)]
    for number in range(start, stop):
        rows = range(sum(lengths[:number]), sum(lengths[: number + 1]))
        group, fault = (None, missing) if missing else _group(file, number)
        if group is None:
            yield from (Rejected(row, fault, _where(shard, row)) for row in rows)
            continue
        if group.table.num_rows != len(rows):
            # No later row has a certain number.
            reason = f"damaged parquet data: {group.table.num_rows:,} rows where the footer says {len(rows):,}"
            yield Rejected(rows.start, f"{reason}. Copy or write it again", _where(shard, rows.start), torn=True)
            return
        for row, tree in zip(rows, _rows(group.table.select(columns)), strict=True):
            yield _document(tree, row, shard, layout, (group, row - rows.start), extra)


def _group(file: pq.ParquetFile, number: int) -> tuple[RowGroup | None, str]:
    """The row group, or why it cannot be read."""
    try:
        return RowGroup(number, file.read_row_group(number)), ""
    except (pa.ArrowInvalid, OSError) as error:
        return None, f"{as_truncation_error(error, 'damaged parquet data')}. Copy or write it again"


def _columns(schema: pa.Schema, layout: Layout, extra: str | None) -> tuple[list[str], str]:
    """The columns of all fields, or why they cannot be used. Those of the id and of `extra` may be missing."""
    fields = [layout.chat.turns] if layout.chat else [*layout.prompt_fields, *layout.text_fields]
    if layout.token_field:
        # Other lists may be aligned with it.
        lists = [column.name for column in schema if _is_numbers(column.type) and schema.names.count(column.name) == 1]
        fields = [layout.token_field, *lists]
    columns = dict.fromkeys(path.partition(".")[0] for path in fields)
    for column in columns:
        if schema.names.count(column) != 1:
            problem = "occurs twice" if column in schema.names else f"is missing; there are {schema.names[:20]}"
            return [], f"the column {column!r} {problem}. Name the field to read (--text-field)"
    optional = dict.fromkeys((path or "").partition(".")[0] for path in (layout.id_field, extra))
    if twice := [name for name in optional if schema.names.count(name) > 1]:
        return [], f"the column {twice[0]!r} occurs twice. Rename one of the two"
    return [*columns, *(name for name in optional if name in schema.names and name not in columns)], ""


def _is_numbers(kind: pa.DataType) -> bool:
    return is_list(kind) and bool(pa.types.is_primitive(kind.value_type))


def _rows(table: pa.Table) -> Iterator[dict[str, Any] | None]:
    """The rows; None for a row with text that is not UTF-8, which parquet does not check."""
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:
            yield from (_row(batch.slice(row, 1)) for row in range(len(batch)))


def _row(batch: pa.RecordBatch) -> dict[str, Any] | None:
    try:
        (tree,) = batch.to_pylist()
    except UnicodeDecodeError:
        return None
    return dict(tree)


def _document(
    tree: Mapping[str, Any] | None,
    row: int,
    shard: Shard,
    layout: Layout,
    origin: tuple[RowGroup, int],
    extra: str | None,
) -> Record | Rejected:
    where = _where(shard, row)
    try:
        if tree is None:
            raise UnusableRecordError(_NOT_UTF8)
        name = id_of(tree, layout, f"{shard.name}:{row}")
        record = Record(name, row, where, fields_of(tree, layout), origin, extra=value_of(tree, extra))
        length = sum(field.bytes for field in record.fields)
        if length > layout.max_document_bytes:
            raise UnusableRecordError(f"{length} bytes exceed max_document_bytes. Raise it")
    except UnusableRecordError as error:
        raw = None if tree is None else json.dumps(tree, ensure_ascii=False, default=str).encode("utf-8")
        return Rejected(row, str(error), where, raw)
    return record


def _where(shard: Shard, row: int) -> str:
    return f"{shard.name}, row {row}"


class ParquetWriter:
    """Writes the documents of a shard, in order; a row group after its last document."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._group: RowGroup | None = None

    def write(self, record: Record, contents: Mapping[str, Content]) -> None:
        """Write `record` with its fields in `contents` replaced; all of them differ from the original."""
        group, at = record.origin
        if self._group is not group:
            self.finish()
            self._group = group
        group.kept_rows.append(at)
        if contents:
            group.edits[at] = dict(contents)

    def format_error(self, _record: Record, _contents: Mapping[str, Content]) -> str:
        """Always "": a column of strings holds any text, and the width of a column of ids is checked before."""
        return ""

    def finish(self) -> None:
        """Write the current row group, of which no more documents come."""
        if self._group is None:
            return
        table, edits = self._group.table, self._group.edits
        if len(rows := self._group.kept_rows) < len(table):
            # Before the edits: a row that was rejected may hold text that is not UTF-8.
            mask = np.zeros(len(table), dtype=bool)
            mask[rows] = True
            table = table.filter(pa.array(mask))
            edits = {at: edits[row] for at, row in enumerate(rows) if row in edits}
        table = replace_in_table(table, edits)
        self._file.write_table(table.replace_schema_metadata(self._file.schema.metadata), row_group_size=len(table))
        self._group = None


@contextmanager
def open_parquet_writer(shard: Shard, path: Path, metadata: Mapping[str, str]) -> Iterator[ParquetWriter]:
    """A writer of a file at the local `path` with the properties of the file of `shard` and additional `metadata`.

    Raises:
        TruncatedFileError: the file of `shard` is not a complete parquet file, or empty.
    """
    with open_parquet(shard.url, shard.name) as like:
        arguments = _arguments(like, metadata)
    with pq.ParquetWriter(path, **arguments) as file:
        yield ParquetWriter(file)


def join_row_groups(parts: Sequence[Path], path: Path) -> None:
    """Write the row groups of `parts`, in order, to one file."""
    with pq.ParquetFile(parts[0]) as like:
        arguments = _arguments(like, {})
    with pq.ParquetWriter(path, **arguments) as file:
        for part in parts:
            with pq.ParquetFile(part) as opened:
                for number in range(opened.num_row_groups):
                    table = opened.read_row_group(number)
                    file.write_table(table, row_group_size=len(table))


def _arguments(like: pq.ParquetFile, extra: Mapping[str, str]) -> dict[str, Any]:
    schema = like.schema_arrow
    metadata = {**(schema.metadata or {}), **{key.encode(): value.encode() for key, value in extra.items()}}
    arguments: dict[str, Any] = {
        "schema": schema.with_metadata(metadata or None),
        "version": "1.0" if like.metadata.format_version == "1.0" else "2.6",
        "store_schema": b"ARROW:schema" in (like.metadata.metadata or {}),
    }
    if like.num_row_groups:
        group = like.metadata.row_group(0)
        columns = [group.column(index) for index in range(group.num_columns)]
        arguments["compression"] = {column.path_in_schema: _codec(column) for column in columns}
        coded = [column.path_in_schema for column in columns if _DICTIONARIES & {*column.encodings}]
        arguments["use_dictionary"] = coded or False
    return arguments


def _codec(column: pq.ColumnChunkMetaData) -> str:
    """The name of the compression of a column for the writer; zstd if it cannot write that compression."""
    name = str(column.compression).partition("_")[0]
    return "NONE" if name == "UNCOMPRESSED" else name if pa.Codec.is_available(name.lower()) else "ZSTD"
