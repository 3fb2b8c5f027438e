"""Arrow columns in which single strings are exchanged. Rule: everything around them is the same array as before.

A path leads through structs by name and through lists by number to a string.
"""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tailkeep.errors import InputError

Edit = tuple[int, Sequence[str], str]
"""The row, the rest of the path and the new text."""


def replace_in_table(table: pa.Table, edits: dict[int, dict[str, str]]) -> pa.Table:
    """`table` with the text at each path of each row exchanged: {row: {path: text}}."""
    by_column: dict[str, list[Edit]] = defaultdict(list)
    for row, texts in edits.items():
        for path, text in texts.items():
            column, *rest = path.split(".")
            by_column[column].append((row, rest, text))
    for column, found in by_column.items():
        index = table.schema.get_field_index(column)
        table = table.set_column(index, table.schema.field(index), _replace_chunked(table.column(index), found))
    return table


def _replace_chunked(column: pa.ChunkedArray, edits: list[Edit]) -> pa.ChunkedArray:
    # Chunk by chunk: joined, the strings of a large row group no longer fit their 32-bit offsets.
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
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _replace_in_list(array, edits)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        values = array.to_pylist()
        for row, _, text in edits:
            values[row] = text
        return pa.array(values, type=kind)
    raise InputError(f"text in a column of type {kind} cannot be exchanged. Store it as string, in structs or lists.")


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
